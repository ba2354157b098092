"""A pair's name never changes, and every uid lies in exactly one bucket, whatever their number."""

import hashlib
import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.table import uids
from curation.table.uids import Cut, evenly, quantiles


def test_names_of_pairs_are_those_of_every_dataset_made_before():
    # Written down once; another value would give every pair of every dataset another name.
    assert uids.uid_of_url("http://x.test/cat.jpg") == "99093b11fc22cbbd57edffde7dc0b385"
    assert uids.uid_of_image(hashlib.sha256(b"bytes").hexdigest()) == "29636dee7391f88e36a26714565414df"


@settings(deadline=None)
@given(st.text("ab:/é", max_size=4), st.text("ab:/é", max_size=4))
def test_a_url_has_one_name_of_32_hex_digits(left, right):
    name = uids.uid_of_url(left)
    assert len(name) == 32 and set(name) <= set("0123456789abcdef")
    assert (name == uids.uid_of_url(right)) == (left == right)


def test_a_lone_surrogate_in_a_url_has_a_name_too():
    assert len(uids.uid_of_url("http://x.test/\ud800")) == 32


def ranges(cut: Cut) -> list[tuple[str, str]]:
    return [cut.range_of(bucket) for bucket in range(cut.buckets)]


hexes = st.integers(0, 2**128 - 1).map("{:032x}".format)


@settings(deadline=None)
@given(st.lists(hexes, max_size=9), st.integers(1, 40), st.lists(hexes, max_size=9))
def test_every_uid_lies_in_the_one_bucket_whose_range_holds_it(quantiles, buckets, some):
    for cut in (Cut.even(buckets), Cut.at_quantiles(sorted(quantiles), buckets)):
        assert cut.buckets == buckets
        for uid, bucket in zip(some, cut.bucket_of(pa.array(some, pa.string())).tolist(), strict=True):
            assert [at for at, (low, high) in enumerate(ranges(cut)) if low <= uid < high] == [bucket]


@pytest.mark.parametrize("buckets", [2**n for n in range(17)])
def test_buckets_lie_end_to_end_from_the_first_uid_to_the_last(buckets):
    for cut in (Cut.even(buckets), Cut.at_quantiles([f"{n:032x}" for n in range(5)], buckets)):
        found = ranges(cut)
        assert found[0][0] <= "0" * 32 and found[-1][1] > "f" * 32
        assert all(low <= high for low, high in found)
        assert all(before[1] == after[0] for before, after in zip(found[:-1], found[1:], strict=True))
        assert cut.range_of(buckets // 2, buckets) == (found[buckets // 2][0], found[-1][1])


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1), st.integers(0, 16))
def test_the_even_bucket_of_a_uid_is_its_leading_bits(number, bits):
    uid, bucket = f"{number:032x}", number >> (128 - bits)
    assert Cut.even(2**bits).bucket_of(pa.array([uid])).tolist() == [bucket]


@pytest.mark.parametrize("first", [0, 2**60, 2**127])
@pytest.mark.parametrize(("rows", "most", "buckets"), [(20_000, 128, 16), (999, 2048, 64), (200_000, 512, 4096)])
def test_quantiles_of_numbers_in_a_row_cut_them_into_equal_buckets(first, rows, most, buckets):
    names = [f"{first + n:032x}" for n in range(rows)]
    cut = Cut.at_quantiles([names[at] for at in evenly(rows, most)], buckets)
    sizes = np.bincount(cut.bucket_of(pa.array(names)), minlength=buckets)
    assert sizes.sum() == rows and sizes.max() <= rows / buckets * 1.2 + 2 and len(sizes) == buckets


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(2, 40))
def test_rows_taken_evenly_are_the_first_the_last_and_some_as_far_apart_as_can_be(rows, most):
    taken = evenly(rows, most).tolist()
    assert len(taken) == min(rows, most) and taken[:1] == [0][:rows] and taken[-1:] == [rows - 1][:rows]
    gaps = [b - a for a, b in zip(taken, taken[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@settings(deadline=None)
@given(st.lists(st.tuples(hexes, st.integers(1, 50)), min_size=1, max_size=40), st.integers(2, 30), st.randoms())
def test_quantiles_weigh_every_uid_by_the_rows_it_stands_for(some, most, rng):
    """Judged by writing every uid as often as it weighs."""
    rows = sorted(uid for uid, weight in some for _ in range(weight))
    rng.shuffle(some)
    made = quantiles(np.array([u for u, _ in some], "S32"), np.array([w for _, w in some]), most)
    count = min(most, len(some))
    levels = [len(rows) * n / (count - 1) for n in range(count)] if count > 1 else [0]
    expected = [rows[max(0, math.ceil(level - 1e-9) - 1)] for level in levels]
    assert [uid.decode() for uid in made] == expected


@given(st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=9), st.integers(0, 2**64 - 1), st.integers(1, 5))
def test_what_is_told_in_place_of_uids_lies_evenly_between_each_and_the_next(numbers, phase, each):
    numbers.sort()
    made = uids.between([f"{number:032x}" for number in numbers], phase, each)
    assert {len(one) for one in made} <= {32} and len(made) == each * (len(numbers) - 1)
    for at, one in enumerate(made):
        low, high = numbers[at // each], numbers[at // each + 1]
        assert int(one, 16) == math.floor(low + (high - low) * (at % each + Fraction(phase, 2**64)) / each)
