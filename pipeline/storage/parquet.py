"""Parquet files: written atomically with page checksums, read with every page checked, and never larger than agreed.

A parquet file of a megabyte may hold gigabytes of equal values. Where a file may be hostile, the reader says how much
it will take (`Most`): the footer is asked before a page is read, and texts stay in their dictionaries until counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.storage.address import local_path, shown
from pipeline.storage.files import publish, read_bytes, reading

ROW_GROUP = 1 << 17  # rows of a parquet row group
_VALUE = 8  # bytes that a value takes in memory, whatever it takes in the file


class Most(NamedTuple):
    """How many rows and bytes of values, unpacked, a table may hold: a larger one is a DataError before it is read."""

    rows: int
    bytes: int


def publish_parquet(url: str, table: pa.Table) -> None:
    """zstd, with page checksums. The same rows give the same bytes under the same pyarrow, however they are chunked."""
    whole = table.combine_chunks()
    with publish(url) as path:
        pq.write_table(whole, path, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP)


def read_parquet(url: str, columns: list[str] | None = None, most: Most | None = None) -> pa.Table:
    """Raises DataError naming the file when it is no parquet, a page fails its checksum or a column is missing."""
    path = local_path(url)
    with reading(url):
        return parquet_table(pa.BufferReader(read_bytes(url)) if path is None else path, shown(url), columns, most)


def publish_arrow(url: str, table: pa.Table) -> None:
    """An Arrow file, not compressed: a local one is mapped into memory, not read."""
    with publish(url) as path, pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as file:
        file.write_table(table.combine_chunks())


def read_arrow(url: str) -> pa.Table:
    """What `publish_arrow` wrote; processes of one machine share its memory. Raises DataError naming the file when it
    is none. Nothing checks its bytes: that is for the state that vouches for it."""
    path = local_path(url)
    with reading(url):
        try:
            source = pa.memory_map(str(path)) if path is not None else pa.BufferReader(read_bytes(url))
            return pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid as error:
            hint = "remove this file and run the same command again: it is made again"
            raise DataError(shown(url), f"no Arrow file: {error}", "an undamaged file", hint) from error


def parquet_table(
    source: Path | pa.BufferReader, where: str, columns: list[str] | None = None, most: Most | None = None
) -> pa.Table:
    """As `read_parquet`, from a local file or bytes already read; `where` names it in errors."""
    with _opened(source, where, columns, most) as file:
        table = file.read(columns=columns, use_threads=False)  # threads do not survive a fork
        if most is None:
            return table
        _check_bytes(sum(unpacked_bytes(column) for column in table.columns), where, most)
        return _unpacked(table)


def parquet_batches(source: Path | pa.BufferReader, where: str, most: Most, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of up to `rows` rows whose texts are still in dictionaries (`unpacked_bytes` counts them)."""
    with _opened(source, where, None, most) as file:
        for group in range(file.num_row_groups):  # a list of dictionaries cannot span two
            yield from file.iter_batches(batch_size=rows, row_groups=[group], use_threads=False)


@contextmanager
def _opened(
    source: Path | pa.BufferReader, where: str, columns: list[str] | None, most: Most | None
) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            missing = sorted({name.split(".")[0] for name in columns or ()} - set(names))
            if missing:
                raise DataError(where, f"columns {', '.join(names)}", f"also {', '.join(missing)}")
            if most is None:
                yield file
                return
            texts = _check_footer(file, where, columns, most)
        with pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=texts) as file:
            yield file
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        found = "not readable as parquet: " + (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(where, found, "an undamaged file", "make it again or copy it again") from error


def _check_footer(file: pq.ParquetFile, where: str, columns: list[str] | None, most: Most) -> list[str]:
    """Paths of the columns of text. Raises DataError when rows or bytes are more than `most`."""
    about, texts, size = file.metadata, set(), 0
    if about.num_rows > most.rows:
        raise DataError(where, f"{about.num_rows} rows", f"at most {most.rows}: it is damaged or hostile")
    for group in range(about.num_row_groups):
        for number in range(about.num_columns):
            chunk = about.row_group(group).column(number)
            if columns is not None and chunk.path_in_schema.split(".")[0] not in columns:
                continue
            width = max(_VALUE, file.schema.column(number).length or 0)
            size += max(chunk.total_uncompressed_size, chunk.num_values * width)
            if chunk.physical_type == "BYTE_ARRAY":
                texts.add(chunk.path_in_schema)
    _check_bytes(size, where, most)
    return sorted(texts)


def _check_bytes(found: int, where: str, most: Most) -> None:
    if found > most.bytes:
        raise DataError(where, f"{found} bytes, unpacked", f"at most {most.bytes}: it is damaged or hostile")


def unpacked_bytes(array: pa.Array | pa.ChunkedArray) -> int:
    """Bytes of the values, each text counted as often as it stands there."""
    if isinstance(array, pa.ChunkedArray):
        return sum(unpacked_bytes(chunk) for chunk in array.chunks)
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64()).take(array.indices)
        return (pc.sum(lengths).as_py() or 0) + len(array) * _VALUE
    if pa.types.is_struct(array.type):
        return sum(unpacked_bytes(part) for part in array.flatten())
    if isinstance(array, pa.MapArray):  # a list, too, but one that nothing flattens
        first, stop = (array.offsets[at].as_py() for at in (0, len(array)))
        return unpacked_bytes(array.values.slice(first, stop - first)) + len(array) * _VALUE
    if isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return unpacked_bytes(array.flatten()) + len(array) * _VALUE
    return array.nbytes


def _unpacked(table: pa.Table) -> pa.Table:
    """The table with top-level dictionaries turned into their values."""
    for number, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            plain = pa.field(column.name, column.type.value_type, column.nullable)
            table = table.set_column(number, plain, table.column(number).cast(column.type.value_type))
    return table
