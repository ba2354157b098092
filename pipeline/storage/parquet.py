"""Parquet files, whole: written atomically with page checksums, read with every page checked."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.storage.address import local_path, shown
from pipeline.storage.files import publish, read_bytes, reading

ROW_GROUP = 1 << 17  # rows of a parquet row group


def publish_parquet(url: str, table: pa.Table) -> None:
    """zstd, with page checksums. The same rows give the same bytes under the same pyarrow, however they are chunked."""
    whole = table.combine_chunks()
    with publish(url) as path:
        pq.write_table(whole, path, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP)


def read_parquet(url: str, columns: list[str] | None = None) -> pa.Table:
    """Raises DataError naming the file when it is no parquet, a page fails its checksum or a column is missing."""
    path = local_path(url)
    with reading(url):
        return parquet_table(pa.BufferReader(read_bytes(url)) if path is None else path, shown(url), columns)


def parquet_table(source: Path | pa.BufferReader, where: str, columns: list[str] | None = None) -> pa.Table:
    """As `read_parquet`, from a local file or bytes already read; `where` names it in errors."""
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            missing = sorted({name.split(".")[0] for name in columns or ()} - set(names))
            if missing:
                raise DataError(where, f"columns {', '.join(names)}", f"also {', '.join(missing)}")
            return file.read(columns=columns, use_threads=False)  # threads do not survive a fork
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        found = "not readable as parquet: " + (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(where, found, "an undamaged file", "make it again or copy it again") from error
