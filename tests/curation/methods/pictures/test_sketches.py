"""Sketches are the frequencies of the whole and of its middle, near ones share keys, and crowds cost no more."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.images.phash import grey_levels
from curation.methods.pictures import sketches as module
from curation.methods.pictures.sketches import CROPS, NUM_KEYS, NUMBERS, near_sketches, sketch_keys, sketches
from tests.helpers import edits


def squares(*images):
    return np.stack([grey_levels(image) for image in images])


def test_a_sketch_is_the_low_frequencies_over_their_energy_in_plain_words():
    grey = squares(edits.photo(1))[0].astype(float)
    found = sketches(grey[None].astype(np.uint8))[0]
    order = sorted(((v, u) for v in range(8) for u in range(8) if u + v), key=lambda f: (f[0] + f[1], f[1]))
    for view, crop in enumerate(CROPS):
        edge, size = 32 * crop, 32 * (1 - 2 * crop)
        pieces = []
        for at in range(32):
            low, high = max(at, edge), min(at + 1, 32 - edge)
            if high > low:
                pieces.append((at, (low + high) / 2, high - low))
        values = [
            sum(
                grey[r, c] * hr * hc
                * math.cos(math.pi * v * (mr - edge) / size) * math.cos(math.pi * u * (mc - edge) / size)
                for r, mr, hr in pieces for c, mc, hc in pieces
            )
            for v, u in order
        ]  # fmt: skip
        energy = math.sqrt(sum(value * value for value in values))
        assert np.abs(found[view] - np.round([127 * value / energy for value in values[:NUMBERS]])).max() <= 1


def test_brightness_and_contrast_do_not_show():
    grey = squares(*[edits.photo(seed) for seed in range(8)]) // 3
    assert np.abs(sketches(grey).astype(int) - sketches(grey * 2 + 40)).max() <= 1


def test_no_pictures_have_no_sketches():
    none = sketches(np.zeros((0, 32, 32), np.uint8))
    assert none.shape == (0, 3, NUMBERS) and sketch_keys(none).shape == (0, NUM_KEYS)


@pytest.mark.parametrize(
    ("name", "least"),
    [("JPEG 30", 60), ("5% off each side", 59), ("5% off the left", 57), ("5% off the left and the top", 50),
     ("8% off each side", 54), ("a frame of 6%", 58)],
)  # fmt: skip
def test_edits_share_a_key_and_other_pictures_do_not(name, least):
    originals = [(edits.photo, edits.drawing)[seed % 2](seed) for seed in range(60)]
    mine = [set(keys) for keys in sketch_keys(sketches(squares(*originals))).tolist()]
    edited = squares(*[edits.EDITS[name](image) for image in originals])
    theirs = [set(keys) for keys in sketch_keys(sketches(edited)).tolist()]
    assert sum(bool(a & b) for a, b in zip(mine, theirs, strict=True)) >= least
    assert sum(bool(mine[i] & theirs[j]) for i in range(60) for j in range(60) if i != j) <= 80  # of 3,540


ROWS = st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(-4, 4), min_size=3, max_size=3)), max_size=40)


@given(ROWS, st.integers(0, 60))
def test_in_small_groups_near_pairs_are_those_of_comparing_all_with_all(rows, most):
    rows = sorted(rows, key=lambda row: row[0])
    group = np.array([g for g, _ in rows], np.uint64)
    sketch = np.array([values for _, values in rows], np.int8).reshape(len(rows), 3)
    sketch = np.concatenate([sketch, np.zeros((len(rows), NUMBERS - 3), np.int8)], axis=1)
    pairs, distance = near_sketches(group, sketch, most)
    wanted = {}
    for i, (one, left) in enumerate(rows):
        for j, (other, right) in enumerate(rows):
            apart = sum((a - b) ** 2 for a, b in zip(left, right, strict=True))
            if i < j and one == other and apart <= most:
                wanted[i, j] = apart
    found = dict(zip(map(tuple, pairs.tolist()), distance.tolist(), strict=True))
    assert found == wanted and len(pairs) == len(found)


def test_in_a_crowd_the_nearest_are_found_at_a_bounded_cost():
    rng = np.random.default_rng(0)
    sketch = rng.integers(-60, 60, (1000, NUMBERS)).astype(np.int8)
    twins = sketch.copy()
    twins[:, ::5] += 1
    both = np.concatenate([sketch, twins])[rng.permutation(2000)]
    pairs, distance = near_sketches(np.full(2000, 7, np.uint64), both, 10**6)
    assert len(pairs) <= 2000 * module._WINDOW * module._ORDERS
    assert len({tuple(each) for each in pairs.tolist()}) == len(pairs)
    assert (distance == 5).sum() >= 990  # of 1,000 twins


@pytest.mark.parametrize(("away", "least"), [(40, 0.99), (300, 0.85), (1100, 0.4)])
def test_in_a_crowd_of_thousands_copies_are_found_though_hundreds_of_others_lie_about(away, least):
    """As near as re-encoded ones, a small crop, a crop of 5%; windows along directions found 0.59, 0.30 and 0.18."""
    rng = np.random.default_rng(away)
    originals = rng.normal(0, 9, (5000, NUMBERS))
    copies = originals[:500] + rng.normal(0, math.sqrt(away / NUMBERS), (500, NUMBERS))
    order = rng.permutation(5500)
    place = np.argsort(order)
    sketch = np.concatenate([originals, copies]).round().clip(-127, 127).astype(np.int8)[order]
    pairs, _ = near_sketches(np.zeros(5500, np.uint64), sketch, 1600)
    found = {tuple(each) for each in pairs.tolist()}
    both = [tuple(sorted((place[at], place[5000 + at]))) for at in range(500)]
    assert sum(each in found for each in both) >= least * 500
