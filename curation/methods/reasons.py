"""Turns reasons given to single captions into Verdicts on pairs."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.stage import Verdicts
from curation.table.captions import ROW, implode


def sift(flat: pa.Table, reasons: pa.Array, num_pairs: int, details: pa.Array | None = None) -> Verdicts:
    """Keeps the captions whose reason is null; drops a pair that loses all of its captions.

    `flat` is from captions.explode, `reasons` (string) and `details` have one entry per caption. A dropped pair gets
    the reason and detail of its first caption, the one that would have spoken for it. Every lost caption is counted.
    """
    kept = flat.filter(reasons.is_null())
    rows = flat.column(ROW).to_numpy()
    had, has = np.zeros(num_pairs, bool), np.zeros(num_pairs, bool)
    had[rows] = True
    has[kept.column(ROW).to_numpy()] = True
    first = np.searchsorted(rows, np.arange(num_pairs))  # index of each pair's first caption
    first_of_lost = pa.array(first, mask=~(had & ~has))
    return Verdicts(
        reason=reasons.take(first_of_lost),
        detail=None if details is None else details.take(first_of_lost),
        captions=implode(kept, num_pairs),
        caption_drops=count(reasons),
    )


def count(reasons: pa.Array) -> dict[str, int]:
    """How often each reason occurs; null is no reason."""
    counted = pc.value_counts(reasons.drop_null())
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def no_reasons(num: int) -> pa.Array:
    return pa.nulls(num, pa.string())


def mark(reasons: list[tuple[str, np.ndarray]], num: int) -> pa.Array:
    """A reason per row from (reason, mask) in order of precedence; null where no mask holds."""
    marked = np.full(num, None, dtype=object)
    for reason, mask in reversed(reasons):
        marked[mask] = reason
    return pa.array(marked, pa.string())
