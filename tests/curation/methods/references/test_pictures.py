"""How far copies of one item go, of what a crawl has like it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.methods.references.pictures import last_step, step_of


def test_steps_rise_with_the_distance_and_nothing_is_beyond_them():
    steps = step_of(np.array([0.0, 0.05, 0.0501, 0.1, 0.2, 0.3, 1e9, np.inf]))
    assert steps.tolist()[:2] == [0, 0] and steps[2] == 1 and (np.diff(steps) >= 0).all()
    assert steps[3] == 12 and steps[4] == 24  # twelve from a distance to twice of it


@pytest.mark.parametrize(
    ("distances", "last"),
    [
        ([0.01, 0.09, 0.24], [0.01, 0.09, 0.24]),  # nothing lies close behind any of them
        ([0.01, 0.09, 0.26], [0.01, 0.09]),  # beyond what a copy may differ by
        (list(np.geomspace(0.05, 0.5, 40)), [0.05]),  # by degrees: none but what nothing tells apart
        ([0.01] + list(np.geomspace(0.06, 0.5, 40)), [0.01]),
        ([0.02] * 60 + [0.06, 0.3], [0.02, 0.06]),
        ([], []),
    ],
)
def test_copies_are_what_lies_before_a_gap(distances, last):
    step, count = np.unique(step_of(np.array(distances)), return_counts=True)
    end = last_step(step, count, 0.25)
    assert [d for d in dict.fromkeys(distances) if step_of(np.array([d]))[0] <= end and d < 0.25] == last


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 2), min_size=1, max_size=60))
def test_the_bound_has_a_gap_behind_it(distances):
    steps = np.sort(step_of(np.array(distances)))
    step, count = np.unique(steps, return_counts=True)
    end = last_step(step, count, 0.25)
    before, within = (steps <= end).sum(), ((steps > end) & (steps <= end + 7)).sum()
    assert end == 0 or within * 20 <= before
