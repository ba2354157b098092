"""Bytes anywhere, all or nothing: local paths and fsspec URLs behind one small set of functions.

    from pipeline import storage
    storage.publish_json(storage.join(folder, "x.json"), {"a": 1})

address.py says what a path may be, overlap.py whether two paths meet; files.py reads, lists and publishes; parquet.py
does so for tables; window.py reads a file front to back; hashed.py hashes what is written or read; state.py keeps what
is done and vouches for files; json_lines.py is for logs; lock.py lets one run in at a time.
"""

from pipeline.storage.address import basename, join, local_path, scheme_of, shown
from pipeline.storage.files import (
    TEMP_PREFIX,
    RangeReader,
    can_list,
    exists,
    file_kind,
    glob,
    glob_others,
    is_temp,
    list_folders,
    list_names,
    list_others,
    list_sizes,
    publish,
    publish_bytes,
    publish_json,
    read_bytes,
    remove,
    size,
    stamp,
    sweep_temps,
)
from pipeline.storage.hashed import HashedWriter, blake2b_of, sha256_of
from pipeline.storage.json_lines import JsonLine, json_lines
from pipeline.storage.overlap import first_meeting
from pipeline.storage.parquet import Most, parquet_batches, parquet_table, publish_parquet, read_parquet
from pipeline.storage.refusals import storage_errors
from pipeline.storage.state import Note, fault_of, faults_of, json_object, note_of, publish_state, read_state
from pipeline.storage.window import Window

__all__ = [
    "HashedWriter",
    "JsonLine",
    "Most",
    "Note",
    "RangeReader",
    "TEMP_PREFIX",
    "Window",
    "basename",
    "blake2b_of",
    "can_list",
    "exists",
    "fault_of",
    "faults_of",
    "file_kind",
    "first_meeting",
    "glob",
    "glob_others",
    "is_temp",
    "join",
    "json_lines",
    "json_object",
    "list_folders",
    "list_names",
    "list_others",
    "list_sizes",
    "local_path",
    "note_of",
    "parquet_batches",
    "parquet_table",
    "publish",
    "publish_bytes",
    "publish_json",
    "publish_parquet",
    "publish_state",
    "read_bytes",
    "read_parquet",
    "read_state",
    "remove",
    "scheme_of",
    "sha256_of",
    "shown",
    "size",
    "stamp",
    "storage_errors",
    "sweep_temps",
]
