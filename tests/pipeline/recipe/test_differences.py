"""Differences of settings are told leaf by leaf, by dotted path, but for those that do not count."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.recipe.differences import differences

LEAF = st.integers() | st.text(max_size=3) | st.none()
TREE = st.recursive(LEAF, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.sampled_from("abc"), t), max_leaves=8)


def test_each_leaf_that_differs_is_named():
    before = {"lr": 1e-3, "betas": [0.9, 0.98], "loss": {"kind": "softmax"}, "old": 1, "steps": 3}
    now = {"lr": 5e-4, "betas": [0.9, 0.99], "loss": {"kind": "softmax", "tile": 4}, "steps": 9}
    told = [str(one) for one in differences(before, now, ignored=("steps",))]
    assert told == ["lr: 0.001 -> 0.0005", "betas.1: 0.98 -> 0.99", "loss.tile: (not set) -> 4", "old: 1 -> (not set)"]


@given(TREE, TREE)
def test_there_is_a_difference_exactly_when_the_values_differ(before, now):
    assert bool(differences(before, now)) == (before != now)
    assert differences(before, before) == []
