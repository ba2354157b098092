"""Columns of vectors as matrices."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table import captions
from curation.table.arrow import whole

_CAPTIONS = "captions."


def matrix(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(float16 [vector, value], number of the row that each is of); rows without one are left out."""
    column = whole(column)
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    there = pc.drop_null(column)
    flat = there.flatten().to_numpy(zero_copy_only=False).astype(np.float16, copy=False)
    return flat.reshape(len(rows), -1) if len(rows) else np.zeros((0, 0), np.float16), rows


def vectors_of(pairs: pa.Table, column: str) -> pa.Array:
    """The vector of each pair; of a column of the captions (captions.text_vector) its first caption's, null where it
    has none."""
    if column.startswith(_CAPTIONS):
        return whole(captions.first(pairs, column.removeprefix(_CAPTIONS)))
    return whole(pairs.column(column))


def as_bytes(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Vectors as binary, to be sorted and sent as one plain column: float16, little-endian."""
    vectors, rows = matrix(column)
    data = vectors.astype("<f2").tobytes()
    width = vectors.shape[1] * 2
    found = pa.array([data[at * width : (at + 1) * width] for at in range(len(rows))], pa.binary())
    where = np.full(len(column), -1)
    where[rows] = np.arange(len(rows))
    return found.take(pa.array(where, mask=where < 0))


def from_bytes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """float16 [row, value] of what `as_bytes` made; all of one width and none missing."""
    return np.frombuffer(b"".join(whole(column).to_pylist()), "<f2").reshape(len(column), -1)
