"""Counts in many narrow bins, drawn over few edges, exactly: an edge lies between bins, never in one."""

from collections.abc import Sequence

import numpy as np

from pipeline.report.schemas import ScoreBins

BARS = 40
_TAIL = 0.001  # of the numbers on either side that the outermost bars stand for
_RANGE = 50.0  # from the least to the most, when all are positive: beyond it bars widen by a factor


def edges_of(scores: Sequence[ScoreBins], bars: int = BARS) -> np.ndarray:
    """float64, at most bars + 1: common to all of `scores`; the outermost bars take in what lies beyond."""
    low, high, number = (
        np.array([value for each in scores for value in getattr(each, name)], np.float64)
        for name in ("low", "high", "before")
    )
    order = np.lexsort([high, low])
    low, high, number = (values[order][(high > low)[order]] for values in (low, high, number))
    if not len(low):
        return np.zeros(0)
    share = np.cumsum(number) / max(float(number.sum()), 1.0)
    cuts = [cut for each in scores for cut in each.cuts]
    at = np.minimum(np.searchsorted(share, [_TAIL, 1 - _TAIL]), len(low) - 1)
    first, last = min([float(low[at[0]]), *cuts]), max([float(high[at[1]]), *cuts])
    if not first < last:
        return np.array([low[0], high[-1]])
    wide = first > 0 and last / first > _RANGE
    found = np.geomspace(first, last, bars + 1) if wide else np.linspace(first, last, bars + 1)
    return np.unique(_between(found, low, high))


def _between(edges: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Each edge, or the nearer bound of the bins that it lies in, whosever they are; the outermost go outwards."""
    found = edges.copy()
    for at, edge in enumerate(edges):
        inside = (low < edge) & (edge < high)
        while inside.any():  # of two runs the wider bin decides: bins nest
            widest = np.flatnonzero(inside)[np.argmax((high - low)[inside])]
            goes_down = edge - low[widest] <= high[widest] - edge
            if at in (0, len(edges) - 1):
                goes_down = at == 0
            edge = low[widest] if goes_down else high[widest]
            inside = (low < edge) & (edge < high)
        found[at] = edge
    return found


def counted(scores: ScoreBins, edges: np.ndarray) -> tuple[list[int], list[int]]:
    """(all, kept) between the edges."""
    at = np.clip(np.searchsorted(edges, np.array(scores.low), side="right") - 1, 0, len(edges) - 2)
    found = (np.bincount(at, weights, len(edges) - 1) for weights in (scores.before, scores.after))
    before, after = (each.astype(np.int64).tolist() for each in found)
    return before, after
