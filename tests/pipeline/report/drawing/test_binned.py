"""Narrow bins over few edges: every number is counted once, on its side of every edge."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.report.drawing.binned import BARS, counted, edges_of
from pipeline.report.schemas import ScoreBins


def binned(values: list[float], digits: int, cuts: list[float] = (), kept: float = 0.0) -> ScoreBins:
    """Bins of a dyadic grid: `digits` fractional bits; kept is what is at least `kept`."""
    width = 2.0**-digits
    low = np.floor(np.array(values) / width) * width
    bounds, at = np.unique(low, return_inverse=True)
    before = np.bincount(at, minlength=len(bounds))
    after = np.bincount(at, np.array(values) >= kept, minlength=len(bounds)).astype(int)
    return ScoreBins(column="x", cuts=list(cuts), low=bounds.tolist(), high=(bounds + width).tolist(),
                     before=before.tolist(), after=after.tolist())  # fmt: skip


NUMBERS = st.lists(st.floats(-100, 100), min_size=1, max_size=80)


@given(NUMBERS, st.integers(0, 8), NUMBERS, st.integers(0, 8), st.floats(-120, 120))
@example([1.0], 0, [1.25], 2, 1.0)
def test_nothing_is_lost_or_split_also_of_two_runs_with_other_bins(one, fine, two, coarse, cut):
    both = [binned(one, fine, [cut], cut), binned(two, coarse)]
    edges = edges_of(both)
    assert 2 <= len(edges) <= BARS + 1 and (np.diff(edges) > 0).all()
    assert edges[0] <= cut <= edges[-1]
    for scores, values in zip(both, (one, two), strict=True):
        before, after = counted(scores, edges)
        assert sum(before) == len(values) and sum(after) == sum(scores.after)
        for edge in edges:
            assert not any(low < edge < high for low, high in zip(scores.low, scores.high, strict=True))
        inner = edges[1:-1]
        assert np.cumsum(before)[:-1].tolist() == [sum(value < edge for value in values) for edge in inner]


def test_one_far_off_does_not_press_all_others_into_one_bar():
    scores = binned([*np.linspace(0, 1, 5000).tolist(), 1e6, -1e6], 10)
    before, _ = counted(scores, edges_of([scores]))
    assert len(before) > BARS / 2 and max(before) < 300 and sum(before) == 5002


def test_many_octaves_are_drawn_by_a_factor():
    edges = edges_of([binned((10.0 ** np.linspace(0, 4, 3000)).tolist(), 4)])
    factors = edges[2:] / edges[1:-1]
    assert factors.max() / factors.min() < 1.3


def test_nothing_has_no_edges():
    assert len(edges_of([])) == len(edges_of([ScoreBins(column="x")])) == 0
