"""The sets find what a plain set and a loop over all bits find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.methods.lists import sets
from curation.methods.lists.sets import KeySet, NearSet


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_a_key_set_is_a_set(listed, asked):
    assert KeySet(listed).has(asked).tolist() == [each in set(listed) for each in asked]


def test_texts_that_share_the_first_half_of_their_hash_are_told_apart(monkeypatch):
    halves = {"a": (1, 1), "b": (1, 2), "c": (1, 3), "d": (2, 1)}
    monkeypatch.setattr(sets, "keys", lambda texts: np.array([halves[t] for t in texts], np.uint64).reshape(-1, 2))
    assert KeySet(["a", "b", "b", "d"]).has(["a", "b", "c", "d"]).tolist() == [True, True, False, True]


HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=20)


@settings(max_examples=60, deadline=None)
@given(HASHES, HASHES, st.integers(0, 16), st.lists(st.lists(st.integers(0, 63), max_size=18), max_size=20))
def test_every_hash_within_the_radius_is_found_and_no_other(listed, far, radius, flips):
    asked = far + [hash_ ^ sum(1 << bit for bit in set(flip)) for hash_, flip in zip(listed, flips, strict=False)]
    wanted = [
        (number, other)
        for number, one in enumerate(asked)
        for _, other in sorted(((one ^ other).bit_count(), other) for other in set(listed))
        if (one ^ other).bit_count() <= radius
    ]
    who, found = NearSet(listed, radius).near(np.array(asked, np.uint64))
    assert list(zip(who.tolist(), found.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_many_alike_hashes_are_compared_piece_by_piece(monkeypatch, most):
    monkeypatch.setattr(sets, "_MOST_COMPARED", most)
    listed = [1 << bit for bit in range(20)]
    who, found = NearSet(listed, 1).near(np.zeros(3, np.uint64))
    assert who.tolist() == sorted([0, 1, 2] * 20) and found.tolist() == sorted(listed) * 3
