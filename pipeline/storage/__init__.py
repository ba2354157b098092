"""Bytes anywhere, all or nothing: local paths and fsspec URLs behind one small set of functions.

    from pipeline import storage
    storage.publish_json(storage.join(folder, "x.json"), {"a": 1})

address.py says what a path may be, overlap.py whether two paths meet; files.py reads, lists and publishes; listing.py
tells sizes and stamps of many files at once; parquet.py reads and publishes tables; window.py reads a file front to
back; hashed.py hashes what is written or read; state.py keeps what is done and vouches for files; json_lines.py is for
logs; lock.py lets one run in at a time.
"""

from pipeline.storage.address import basename, join, local_path, scheme_of, shown
from pipeline.storage.files import (
    TEMP_PREFIX,
    RangeReader,
    Scratch,
    can_list,
    exists,
    file_kind,
    glob,
    is_temp,
    list_folders,
    list_names,
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
from pipeline.storage.hashed import HashedWriter, blake2b_of, digest_of_pieces, pieces_of, sha256_of
from pipeline.storage.json_lines import JsonLine, json_lines
from pipeline.storage.listing import Listed, list_folder, list_matches, list_tree, listed
from pipeline.storage.overlap import first_meeting
from pipeline.storage.parquet import (
    Most,
    parquet_batches,
    parquet_table,
    publish_arrow,
    publish_parquet,
    read_arrow,
    read_parquet,
)
from pipeline.storage.refusals import storage_errors
from pipeline.storage.state import Note, fault_of, faults_of, json_object, note_of, publish_state, read_state
from pipeline.storage.window import Window

__all__ = [
    "HashedWriter",
    "JsonLine",
    "Listed",
    "Most",
    "Note",
    "RangeReader",
    "Scratch",
    "TEMP_PREFIX",
    "Window",
    "basename",
    "blake2b_of",
    "can_list",
    "digest_of_pieces",
    "exists",
    "fault_of",
    "faults_of",
    "file_kind",
    "first_meeting",
    "glob",
    "is_temp",
    "join",
    "json_lines",
    "json_object",
    "list_folder",
    "list_folders",
    "list_matches",
    "list_names",
    "list_sizes",
    "list_tree",
    "listed",
    "local_path",
    "note_of",
    "parquet_batches",
    "parquet_table",
    "pieces_of",
    "publish",
    "publish_arrow",
    "publish_bytes",
    "publish_json",
    "publish_parquet",
    "publish_state",
    "read_arrow",
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
