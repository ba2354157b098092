"""The table that img2dataset writes beside a tar: the fields of samples that have no .json of their own."""

import json
from collections.abc import Collection
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.contract.pairs import MAX_META, parse_meta
from pipeline.errors import DataError
from pipeline.storage.parquet import unpacked_bytes

# img2dataset lists every url that it tried, so a tar of few samples may have many rows, but not without end.
ROWS_PER_SAMPLE, FEWEST_ROWS = 100, 100_000
MAX_BYTES = 512 << 20  # of a table, its texts counted once; and of the texts that are kept
_BATCH = 4096  # rows
_PLAIN = (str, int, float, bool, list, dict)  # not bytes, not null


def sidecar_rows(path: str, keys: Collection[str]) -> dict[str, tuple[dict[str, Any], str]]:
    """key -> (fields, "") or ({}, reason), of these keys alone; empty when there is no table.

    Raises DataError naming the table when it is damaged, or larger than one of so many samples can be.
    """
    if not keys or not storage.exists(path):
        return {}
    where, local = storage.shown(path), storage.local_path(path)
    most = storage.Most(max(FEWEST_ROWS, ROWS_PER_SAMPLE * len(keys)), MAX_BYTES)
    source = pa.BufferReader(storage.read_bytes(path, most=MAX_BYTES)) if local is None else local
    wanted, found, taken = pa.array(sorted(keys), pa.string()), {}, 0
    for batch in storage.parquet_batches(source, where, most, _BATCH):
        for row in _among(batch, wanted):
            one = batch.slice(row, 1)
            size = sum(unpacked_bytes(column) for column in one.columns)
            taken += min(size, MAX_META)
            if taken > MAX_BYTES:
                raise DataError(where, f"more than {MAX_BYTES} bytes of fields", "the table of one shard")
            key = one.column("key")[0].as_py()
            found[key] = _fields(one) if size <= MAX_META else ({}, "bad_meta")
    return found


def _among(batch: pa.RecordBatch, wanted: pa.Array) -> list[int]:
    """The rows whose key is wanted; none when the table has no column of keys."""
    column = batch.column("key") if "key" in batch.schema.names else None
    kind = column.type.value_type if column is not None and pa.types.is_dictionary(column.type) else pa.null()
    if column is None or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return []
    known = pc.is_in(column.dictionary, value_set=wanted.cast(kind)).take(column.indices)
    return np.flatnonzero(known.fill_null(False).to_numpy(zero_copy_only=False)).tolist()


def _fields(one: pa.RecordBatch) -> tuple[dict[str, Any], str]:
    kept = {name: value for name, value in one.to_pylist()[0].items() if isinstance(value, _PLAIN)}
    kept = {name: value for name, value in kept.items() if not isinstance(value, float) or isfinite(value)}
    return parse_meta(json.dumps(kept, default=str).encode())
