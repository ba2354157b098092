"""Parquet files read in slices: sorted on writing, cut into small row groups, read by range, local or remote."""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import DataError

GROUP_ROWS = 8192


def publish_rows(url: str, table: pa.Table, by: str = "") -> storage.Note:
    """Atomic; zstd, page checksums, row groups of `GROUP_ROWS`. Same rows, same bytes. Returns size and hash, for the
    state that vouches for the file: page checksums do not cover headers, statistics and the footer.

    `by`: the column that it is sorted by, the first where nothing is said. It alone has statistics, by which ranges are
    read; those of all columns take a seventh of the time to write.
    """
    starts = range(0, max(table.num_rows, 1), GROUP_ROWS)
    return publish_groups(url, table.schema, (table.slice(at, GROUP_ROWS).combine_chunks() for at in starts), by)


def publish_groups(url: str, schema: pa.Schema, groups: Iterable[pa.Table], by: str = "") -> storage.Note:
    """As `publish_rows`, from tables of GROUP_ROWS rows (the last may have fewer): only one is held at a time."""
    with storage.publish(url) as path:
        said = [by or schema.names[0]]
        with pq.ParquetWriter(
            path, schema, compression="zstd", write_page_checksum=True, write_statistics=said
        ) as file:
            for group in groups:
                file.write_table(group, GROUP_ROWS)
        return storage.note_of(path)


class _Ranges(io.RawIOBase):
    """A file object over range reads, so that only the row groups asked for are fetched."""

    def __init__(self, url: str) -> None:
        self._reader, self._size, self._at = storage.RangeReader(url), storage.size(url), 0
        self._held = (0, b"")

    @contextmanager
    def held(self, start: int, end: int) -> Iterator[None]:
        """Bytes [start, end) fetched with one read; while the block runs, reads within them cost nothing."""
        self._held = (start, self._reader.read(start, end))
        try:
            yield
        finally:
            self._held = (0, b"")

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
        first, held = self._held
        if first <= self._at <= end <= first + len(held):
            data = held[self._at - first : end - first]
        else:
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


class Forward:
    """A file sorted by the text column `column`, read once from its first row to its last: a row group at a time, each
    with one read. The columns `dictionaries` come as such.

    starts, rows: of each row group the least of `column` ("" where the file does not say) and the number of rows.
    """

    def __init__(self, url: str, column: str, dictionaries: Sequence[str]) -> None:
        self._url, self._column, self._next = url, column, 0
        with _readable(url):
            self._ranges = _Ranges(url)
            self._file = _file(self._ranges, dictionaries)
            self._left = self._file.read_row_groups([], use_threads=False)
        chunks = [chunk for chunk in _chunks(self._file, column) if chunk.num_values]  # an empty file has an empty one
        self.starts = [chunk.statistics.min if _has_bounds(chunk) else "" for chunk in chunks]
        self.rows = [chunk.num_values for chunk in chunks]

    def before(self, high: str) -> pa.Table:
        """The rows with `column` < high that have not been given yet."""
        found = [self._left]
        while self._next < len(self.starts) and self.starts[self._next] < high:
            found.append(self._group(self._next))
            self._next += 1
        table = pa.concat_tables(found)
        inside = pc.sum(pc.less(table.column(self._column), high)).as_py() or 0
        self._left = table.slice(inside)
        return table.slice(0, inside)

    def _group(self, group: int) -> pa.Table:
        about = self._file.metadata.row_group(group)
        chunks = [about.column(leaf) for leaf in range(about.num_columns)]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
        ends = [start + chunk.total_compressed_size for start, chunk in zip(starts, chunks, strict=True)]
        with _readable(self._url), self._ranges.held(min(starts), max(ends)):
            return self._file.read_row_groups([group], use_threads=False)


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


def column_batches(url: str, column: str, rows: int = 1 << 16) -> Iterator[pa.Array]:
    """One column of somebody's file, front to back, some rows at a time. KeyError: no such column; its text names those
    that there are."""
    with _opened(url) as file:
        names = file.schema_arrow.names
        if column not in names:
            raise KeyError(", ".join(names[:20]))
        for batch in file.iter_batches(rows, columns=[column], use_threads=False):
            yield batch.column(0)


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """Damage of a parquet file is a DataError naming it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "remove the folder it lies in and run the same command again"
        where = storage.shown(url)
        raise DataError(where, f"not readable as parquet: {first}", "an undamaged file", hint) from error


def _file(ranges: _Ranges, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    return pq.ParquetFile(ranges, page_checksum_verification=True, read_dictionary=list(dictionaries))


@contextmanager
def _opened(url: str, dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """A checked parquet file."""
    with _readable(url), _file(_Ranges(url), dictionaries) as file:
        yield file


def _has_bounds(chunk: pq.ColumnChunkMetaData) -> bool:
    return chunk.statistics is not None and chunk.statistics.has_min_max


def _overlaps(chunk: pq.ColumnChunkMetaData, low: object, high: object) -> bool:
    stats = chunk.statistics
    return not _has_bounds(chunk) or (stats.max >= low and stats.min < high)
