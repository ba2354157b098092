"""Rows of a parquet table, row group by row group; a value stands once in memory however often it is repeated."""

import io
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.sources.table.images import Image, columns_of, images_of
from curation.sources.table.lines import MAX_ROW, Text
from curation.sources.table.streams import RawFile
from pipeline import storage
from pipeline.errors import DataError, one_line
from pipeline.storage import RangeReader
from pipeline.storage.parquet import unpacked_bytes

_MAGIC = b"PAR1"
_BATCH = 1024  # rows
_IMAGES = 16  # rows, where each has an image: as many megabytes, as a rule
_BATCH_BYTES = 64 << 20  # of values in a batch that is turned into rows at once
_BUFFER = 1 << 20  # bytes of each column read ahead


class NoFooter(DataError):
    """A file that begins as parquet does and has no sound footer, as one that was cut: nothing of it can be read."""


class Table:
    """A file with its footer read. columns: names; of_bytes: those that may hold images; places: where each row group
    is taken to begin, in bytes from 0."""

    def __init__(self, url: str) -> None:
        self.where = storage.shown(url)
        with self._explained("the footer", url):
            raw = io.BufferedReader(RawFile(url), _BUFFER)
            texts = _texts(pq.ParquetFile(raw))
            self._file = pq.ParquetFile(
                raw, page_checksum_verification=True, read_dictionary=texts, buffer_size=_BUFFER, pre_buffer=False
            )
            self.columns = list(self._file.schema_arrow.names)
            self.of_bytes = columns_of(self._file.schema_arrow)
            self.places = _places(self._file.metadata, storage.size(url))

    def count(self, group: int) -> int:
        """Rows that a row group is said to have."""
        return max(0, self._file.metadata.row_group(group).num_rows)

    def rows(self, group: int, needed: Set[str], image: str = "", most: int = 0) -> Iterator[Text]:
        """A row is bad for a value of a `needed` column that cannot be had; of others it is None, and counted as odd.
        Of the column `image` the values are `images.Image`, of at most so many bytes. DataError naming the row group
        when it is damaged."""
        size = _IMAGES if image else _BATCH
        with self._explained(f"row group {group}"):
            for batch in self._file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
                images = images_of(batch.column(image), most) if image else []
                batch = batch.drop_columns([image]) if image else batch
                if _size(batch) <= _BATCH_BYTES:
                    yield from _pictured(_rows(batch, group, needed), image, images)
                else:
                    for at in range(batch.num_rows):
                        one = batch.slice(at, 1)
                        long = _size(one) > MAX_ROW
                        rows = [Text(group, None, "row_too_long")] if long else _rows(one, group, needed)
                        yield from _pictured(rows, image, images[at : at + 1])

    @contextmanager
    def _explained(self, place: str, url: str = "") -> Iterator[None]:
        """`url`: of a file of which nothing can be read if this cannot."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            hint = "make it again or copy it again"
            found = f"not readable as parquet: {one_line(error)}"
            begins = bool(url) and RangeReader(url).read(0, min(storage.size(url), len(_MAGIC))) == _MAGIC
            raise (NoFooter if begins else DataError)(
                f"{self.where}, {place}", found, "an undamaged file", hint
            ) from error


def _texts(file: pq.ParquetFile) -> list[str]:
    """Paths of the columns of bytes and texts."""
    columns = (file.schema.column(at) for at in range(len(file.schema)))
    return sorted({each.path for each in columns if each.physical_type == "BYTE_ARRAY"})


def _places(about: pq.FileMetaData, size: int) -> list[int]:
    """The packed bytes before each row group: they rise, whatever the file says of offsets."""
    found, at = [], 0
    for group in range(about.num_row_groups):
        found.append(min(at, max(size - 1, 0)))
        row_group = about.row_group(group)
        at += sum(max(0, row_group.column(each).total_compressed_size) for each in range(row_group.num_columns))
    return found


def _size(batch: pa.RecordBatch) -> int:
    return sum(unpacked_bytes(column) for column in batch.columns)


def _pictured(rows: Iterable[Text], image: str, images: Sequence[Image | None]) -> Iterator[Text]:
    """The rows with their images."""
    for at, row in enumerate(rows):
        if image and row.values is not None:
            row.values[image] = images[at]
        yield row


def _rows(batch: pa.RecordBatch, group: int, needed: Set[str]) -> Iterator[Text]:
    names, columns, odd = batch.schema.names, list[list[Any]](), 0
    for name, column in zip(names, batch.columns, strict=True):
        try:
            columns.append(column.to_pylist())
        except (ValueError, OverflowError) as error:  # no UTF-8, or a time that Python has no word for
            if batch.num_rows > 1:
                for at in range(batch.num_rows):
                    yield from _rows(batch.slice(at, 1), group, needed)
                return
            if name in needed:
                yield Text(group, None, "bad_utf8" if isinstance(error, UnicodeDecodeError) else "bad_value")
                return
            columns.append([None])
            odd += 1
    for values in zip(*columns, strict=True) if columns else [()] * batch.num_rows:
        yield Text(group, dict(zip(names, values, strict=True)), odd=odd)


def plain(value: Any) -> Any:
    """A value of a table as JSON has it: exact numbers, truth, text, lists and objects; None for NaN, infinities and
    bytes that are no text. Times and decimals are text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return None
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
