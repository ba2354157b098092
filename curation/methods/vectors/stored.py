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
    if not len(rows):  # of an empty bucket the column may hold keys yet
        return np.zeros((0, 0), np.float16), rows
    flat = pc.drop_null(column).flatten().to_numpy(zero_copy_only=False).astype(np.float16, copy=False)
    return flat.reshape(len(rows), -1), rows


def vectors_of(pairs: pa.Table, column: str) -> pa.Array:
    """The vector of each pair; of a column of the captions (captions.text_vector) its first caption's, null where it
    has none."""
    if column.startswith(_CAPTIONS):
        return whole(captions.first(pairs, column.removeprefix(_CAPTIONS)))
    return whole(pairs.column(column))


def binary(values: np.ndarray) -> pa.Array:
    """Rows of a matrix as large_binary, little-endian: a plain column, to be sorted, cut and sent."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    offsets = np.arange(len(values) + 1, dtype=np.int64) * (values.shape[1] * values.itemsize)
    return pa.Array.from_buffers(pa.large_binary(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(values)])


def from_binary(column: pa.Array | pa.ChunkedArray, kind: np.dtype) -> np.ndarray:
    """[row, value] of what `binary` made, without a copy of the values; all of one width and none missing."""
    column = whole(column)
    if column.type != pa.large_binary():  # offsets of 32 bits
        column = column.cast(pa.large_binary())
    if not len(column):
        return np.zeros((0, 0), kind)
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    flat = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if ends[-1] > ends[0] else np.zeros(0, np.uint8)
    return flat.view(kind).reshape(len(column), -1) if flat.size else np.zeros((len(column), 0), kind)


def as_bytes(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Vectors as `binary`: float16, null for those without one."""
    vectors, rows = matrix(column)
    where = np.full(len(column), -1)
    where[rows] = np.arange(len(rows))
    found = binary(vectors)
    return found if len(rows) == len(column) else found.take(pa.array(where, mask=where < 0))


def from_bytes(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """float16 [row, value] of what `as_bytes` made; all of one width and none missing."""
    return from_binary(column, np.dtype("<f2"))
