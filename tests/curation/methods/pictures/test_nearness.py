"""No two near hashes are missed, whatever the bands, and distances of thumbnails are those of the definition."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.methods.pictures import nearness as pictures

HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12)


@given(HASHES, st.integers(0, 2**64 - 1), st.integers(0, 6), st.integers(1, 3), st.randoms(use_true_random=False))
def test_two_hashes_within_the_radius_share_a_group(hashes, base, radius, more, rng):
    near = [base]
    for _ in range(4):
        flipped = base
        for bit in rng.sample(range(64), radius):
            flipped ^= 1 << bit
        near.append(flipped)
    keys = pictures.band_keys(np.array(near + hashes, np.uint64), radius + more, radius)
    for other in range(1, len(near)):
        assert any(table[0] == table[other] for table in keys)


def test_the_order_of_bits_is_another_one_and_loses_none():
    ones = np.uint64(1) << np.arange(64, dtype=np.uint64)
    moved = pictures.scattered_bits(ones)
    assert sorted(moved.tolist()) == sorted(ones.tolist()) and np.any(moved != ones)
    both = np.array([ones[3] | ones[60]], np.uint64)
    assert pictures.scattered_bits(both)[0] == moved[3] | moved[60]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 255)), max_size=30), st.integers(0, 8))
def test_near_pairs_of_each_group_are_those_of_comparing_all_with_all(rows, radius):
    rows = sorted(rows, key=lambda row: row[0])
    group, hashes = np.array([g for g, _ in rows], np.uint64), np.array([h for _, h in rows], np.uint64)
    found = pictures.near_hashes(group, hashes, radius)
    wanted = {
        (i, j)
        for i, (one, left) in enumerate(rows)
        for j, (other, right) in enumerate(rows)
        if i < j and one == other and (left ^ right).bit_count() <= radius
    }
    assert {tuple(pair) for pair in found.tolist()} == wanted and len(found) == len(wanted)


@pytest.mark.parametrize("sliced", [False, True])
def test_distances_of_thumbnails(sliced):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (5, 192), dtype=np.uint8)
    table = pa.table({"tiny_rgb": pa.array([row.tobytes() for row in values], pa.binary(192))})
    if sliced:
        table, values = table.slice(2), values[2:]
    tiny = pictures.tiny_of(table)
    assert (tiny == values).all()
    left, right = values[0].astype(int), values[1].astype(int)
    pairs = np.array([[0, 1]])
    assert pictures.colour_distance(tiny, pairs) == [np.abs(left - right).mean()]
    assert pictures.largest_difference(tiny, pairs) == [np.abs(left - right).max()]
