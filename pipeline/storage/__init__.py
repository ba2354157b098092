"""Bytes anywhere, all or nothing: local paths and fsspec URLs behind one small set of functions.

    from pipeline import storage
    storage.publish_json(storage.join(folder, "x.json"), {"a": 1})

address.py says what a path may be; files.py reads, lists and publishes; parquet.py does so for tables; window.py reads
a file front to back; hashed.py hashes what is written or read; json_lines.py reads logs; lock.py lets one run in.
"""

from pipeline.storage.address import basename, join, local_path, scheme_of, shown
from pipeline.storage.files import (
    TEMP_PREFIX,
    RangeReader,
    can_list,
    exists,
    glob,
    list_names,
    list_sizes,
    publish,
    publish_bytes,
    publish_json,
    read_bytes,
    read_json,
    remove,
    size,
    stamp,
    sweep_temps,
)
from pipeline.storage.hashed import HashedWriter, blake2b_of, sha256_of
from pipeline.storage.json_lines import JsonLine, json_lines
from pipeline.storage.parquet import parquet_table, publish_parquet, read_parquet
from pipeline.storage.refusals import storage_errors
from pipeline.storage.window import Window

__all__ = [
    "HashedWriter",
    "JsonLine",
    "RangeReader",
    "TEMP_PREFIX",
    "Window",
    "basename",
    "blake2b_of",
    "can_list",
    "exists",
    "glob",
    "join",
    "json_lines",
    "list_names",
    "list_sizes",
    "local_path",
    "parquet_table",
    "publish",
    "publish_bytes",
    "publish_json",
    "publish_parquet",
    "read_bytes",
    "read_json",
    "read_parquet",
    "remove",
    "scheme_of",
    "sha256_of",
    "shown",
    "size",
    "stamp",
    "storage_errors",
    "sweep_temps",
]
