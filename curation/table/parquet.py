"""Parquet files read in slices: sorted on writing, cut into small row groups, read by range, local or remote."""

import io
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import DataError

GROUP_ROWS = 8192


def publish_rows(url: str, table: pa.Table) -> storage.Note:
    """Atomic; zstd, page checksums, row groups of `GROUP_ROWS`. Same rows, same bytes. Returns size and hash, for the
    state that vouches for the file: page checksums do not cover headers, statistics and the footer."""
    starts = range(0, max(table.num_rows, 1), GROUP_ROWS)
    return publish_groups(url, table.schema, (table.slice(at, GROUP_ROWS).combine_chunks() for at in starts))


def publish_groups(url: str, schema: pa.Schema, groups: Iterable[pa.Table]) -> storage.Note:
    """As `publish_rows`, from tables of GROUP_ROWS rows (the last may have fewer): only one is held at a time."""
    with storage.publish(url) as path:
        with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as file:
            for group in groups:
                file.write_table(group, GROUP_ROWS)
        return storage.note_of(path)


class _Ranges(io.RawIOBase):
    """A file object over range reads, so that only the row groups asked for are fetched."""

    def __init__(self, url: str) -> None:
        self._reader, self._size, self._at = storage.RangeReader(url), storage.size(url), 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        data = self._reader.read(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data


def read_range(
    url: str,
    column: str,
    low: object,
    high: object,
    dictionaries: Sequence[str] = (),
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The rows with low <= `column` < high of a file sorted by it; reads only the row groups that can hold some.

    The columns `dictionaries` come as such, with each distinct text once a row group. `columns` (with `column` among
    them): only these are read.
    """
    with _opened(url, dictionaries) as file:
        chunks = _chunks(file, column)
        groups = [g for g, chunk in enumerate(chunks) if _overlaps(chunk, low, high)]
        table = file.read_row_groups(groups, columns, use_threads=False)
    values = table.column(column)
    kind = file.schema_arrow.field(column).type
    inside = pc.and_(pc.greater_equal(values, pa.scalar(low, kind)), pc.less(values, pa.scalar(high, kind)))
    return table.filter(inside)


def read_matching(
    url: str, column: str, keys: pa.Array, dictionaries: Sequence[str] = (), columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows whose text `column` is one of `keys`, as `read_range` reads them."""
    ordered = sorted(keys.to_pylist())  # ASCII, as uids are: Python's order is that of the statistics
    with _opened(url, dictionaries) as file:
        groups = [g for g, chunk in enumerate(_chunks(file, column)) if _may_hold(chunk, ordered)]
        table = file.read_row_groups(groups, columns, use_threads=False)
    return table.filter(pc.is_in(table.column(column), keys))


def _chunks(file: pq.ParquetFile, column: str) -> list[pq.ColumnChunkMetaData]:
    """Of every row group. Statistics are by leaf: a nested column before this one has several."""
    at = next(leaf for leaf in range(file.metadata.num_columns) if file.schema.column(leaf).path == column)
    return [file.metadata.row_group(group).column(at) for group in range(file.num_row_groups)]


def read_slice(url: str, start: int, stop: int) -> pa.Table:
    """Rows [start, stop) of a file; reads only the row groups that hold them."""
    with _opened(url) as file:
        groups: list[int] = []
        first = end = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if end + rows > start and end < stop:
                first = end if not groups else first
                groups.append(group)
            end += rows
        table = file.read_row_groups(groups, use_threads=False)
    return table.slice(max(0, start - first), stop - start)


class _opened:
    """A checked parquet file; damage is a DataError naming it."""

    def __init__(self, url: str, dictionaries: Sequence[str] = ()) -> None:
        self._url, self._dictionaries = url, dictionaries

    def __enter__(self) -> pq.ParquetFile:
        try:
            words = list(self._dictionaries)
            self._file = pq.ParquetFile(_Ranges(self._url), page_checksum_verification=True, read_dictionary=words)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error
        return self._file

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._file.close()
        if isinstance(error, (pa.ArrowException, OSError)):
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "remove the folder it lies in and run the same command again"
        return DataError(storage.shown(self._url), f"not readable as parquet: {first}", "an undamaged file", hint)


def _overlaps(chunk: pq.ColumnChunkMetaData, low: object, high: object) -> bool:
    stats = chunk.statistics
    if stats is None or not stats.has_min_max:
        return True
    return stats.max >= low and stats.min < high


def _may_hold(chunk: pq.ColumnChunkMetaData, ordered: list[str]) -> bool:
    stats = chunk.statistics
    if stats is None or not stats.has_min_max:
        return True
    at = bisect_left(ordered, stats.min)
    return at < len(ordered) and ordered[at] <= stats.max
