"""Narrow bins over few edges: every number is counted once, on its side of every edge."""

import numpy as np
import pytest
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


@pytest.mark.parametrize(("most", "is_wide"), [(10_000, True), (60, True), (40, False)])
def test_many_octaves_are_drawn_by_a_factor_and_a_few_by_steps(most, is_wide):
    edges = edges_of([binned(np.geomspace(1, most, 3000).tolist(), 6)])
    factors, steps = edges[2:-1] / edges[1:-2], np.diff(edges[1:-1])
    same, other = (factors, steps) if is_wide else (steps, factors)
    assert same.max() / same.min() < 1.3 < other.max() / other.min()


def test_an_edge_goes_to_the_nearer_bound_of_its_bin():
    edges = edges_of([binned(list(range(90)) * 9, 0)])
    assert np.abs(edges - np.linspace(0, 90, BARS + 1)).max() <= 0.5


def test_nothing_has_no_edges():
    none = [ScoreBins(column="x"), ScoreBins(column="x", low=[1], high=[1], before=[1], after=[1])]
    assert len(edges_of([])) == len(edges_of(none)) == 0
    assert len(edges_of([ScoreBins(column="x", low=[0], high=[1], before=[0], after=[0])])) > 0
