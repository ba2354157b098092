"""The chance to stay, and the t at which a text comes in, are each other's inverse."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.methods.concepts.balancing import keep_probability, threshold_t


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=6), min_size=1, max_size=8), st.floats(0.01, 2000))
def test_the_probability_is_that_of_one_draw_an_entry(lists, t):
    owner = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
    found = keep_probability(owner, np.array([c for each in lists for c in each], float), len(lists), t)
    assert found == pytest.approx([1 - math.prod(1 - t / max(c, t) for c in each) for each in lists])


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=6), min_size=1, max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_the_threshold_is_where_the_probability_passes_the_draw(lists, data):
    owner = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
    counts = np.array([c for each in lists for c in each], float)
    draw = np.array([data.draw(st.floats(0, 1, exclude_max=True)) for _ in lists])
    needed = threshold_t(owner, counts, draw)
    for i, t in enumerate(needed):
        own = counts[owner == i]
        above = keep_probability(np.zeros(len(own), int), own, 1, t * (1 + 1e-12) + 1e-300)[0]
        below = keep_probability(np.zeros(len(own), int), own, 1, t * (1 - 1e-12))[0]
        assert above > draw[i] - 1e-12 and below <= draw[i] + 1e-12 and t <= own.min()


def test_what_mentions_nothing_is_certain_and_nothing_is_nothing():
    assert keep_probability(np.array([0, 1]), np.array([0.0, 8.0]), 2, 2).tolist() == [1, 0.25]
    assert threshold_t(np.array([0]), np.array([0.0]), np.array([0.9])).tolist() == [0]
    none = np.zeros(0, int)
    assert len(keep_probability(none, none, 0, 1.0)) == len(threshold_t(none, none, none)) == 0
