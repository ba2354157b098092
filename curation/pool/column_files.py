"""Files of measured columns, each named by what is in it:

    <pool>/columns/<stage digest>/<low>-<high>-<hash of the file>.parquet

<low>-<high> is the range of uids whose bucket measured it. A file whose bytes do not give its name, or whose columns
are not those of the stage, is damaged: it is removed, and what it held is measured again. Other names are not ours.
"""

import hashlib
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import DataError
from pipeline.log import get_logger

log = get_logger("curation")
_NAME = re.compile(r"([0-9a-f]+)-([0-9a-f]+|g)-([0-9a-f]{32})\.parquet")


def publish_columns(folder: str, low: str, high: str, table: pa.Table) -> None:
    """One more file of rows measured for the uids [low, high)."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    storage.publish_bytes(storage.join(folder, f"{low}-{high}-{_named(data)}.parquet"), data)


def measured_columns(folder: str, low: str, high: str, schema: pa.Schema) -> Iterator[pa.Table]:
    """The files that some uid of [low, high) may need."""
    for name in storage.list_names(folder):
        match = _NAME.fullmatch(name)
        if match is None or not (match[1] < high and low < match[2]):
            continue
        url = storage.join(folder, name)
        data = storage.read_bytes(url)
        try:
            if _named(data) != match[3]:
                raise DataError(storage.shown(url), "other bytes than were written")
            yield storage.parquet_table(pa.BufferReader(data), storage.shown(url)).select(schema.names).cast(schema)
        except (DataError, KeyError, pa.ArrowException):
            log.warning("%s: damaged; its columns are measured again", storage.shown(url))
            storage.remove(url)


def _named(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
