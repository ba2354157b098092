"""How a dataset is cut into shards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.emit.shards import most_pairs, slices
from curation.settings import EmitSettings


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 60))
def test_every_row_is_in_one_shard_in_order_and_shards_are_even(rows, most):
    found = slices(rows, most)
    listed = [(bucket, row) for shard in found for bucket, first, end in shard for row in range(first, end)]
    assert listed == [(bucket, row) for bucket, count in enumerate(rows) for row in range(count)]
    sizes = [sum(end - first for _, first, end in shard) for shard in found]
    assert not sizes or max(sizes) <= most and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("asked", "expected"), [
    ({}, 5000), ({"bytes_per_shard": 10_000}, 100), ({"bytes_per_shard": 10_000, "pairs_per_shard": 40}, 40),
    ({"bytes_per_shard": 1024}, 10), ({"bytes_per_shard": 1 << 40}, 5000),
])  # fmt: skip
def test_a_shard_has_about_the_bytes_asked_for(asked, expected):
    assert most_pairs(3000, 300_000, EmitSettings(**asked)) == expected


def test_images_larger_than_a_shard_have_one_each():
    assert most_pairs(10, 10 << 30, EmitSettings(bytes_per_shard=1024)) == 1
    assert most_pairs(10, 0, EmitSettings(bytes_per_shard=1024)) == 5000
