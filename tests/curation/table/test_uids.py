"""A pair's name never changes, and every uid lies in exactly one bucket, whatever their number."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.table import uids


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


@pytest.mark.parametrize("buckets", [2**n for n in range(17)])
def test_buckets_lie_end_to_end_from_the_first_uid_to_the_last(buckets):
    ranges = [uids.bucket_range(bucket, buckets) for bucket in range(buckets)]
    assert ranges[0][0] <= "0" * 32 and ranges[-1][1] > "f" * 32
    assert all(low < high for low, high in ranges)
    assert all(before[1] == after[0] for before, after in zip(ranges[:-1], ranges[1:], strict=True))


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1), st.integers(0, 16))
def test_the_bucket_of_a_uid_is_its_leading_bits(number, bits):
    uid, bucket = f"{number:032x}", number >> (128 - bits)
    low, high = uids.bucket_range(bucket, 2**bits)
    assert low <= uid < high
