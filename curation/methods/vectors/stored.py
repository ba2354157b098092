"""Columns of vectors as matrices."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table.arrow import whole


def matrix(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(float16 [vector, value], number of the row that each is of); rows without one are left out."""
    column = whole(column)
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    there = pc.drop_null(column)
    flat = there.flatten().to_numpy(zero_copy_only=False).astype(np.float16, copy=False)
    return flat.reshape(len(rows), -1) if len(rows) else np.zeros((0, 0), np.float16), rows
