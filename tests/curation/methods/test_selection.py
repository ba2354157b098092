"""The k-th smallest of any floats, however they are cut into buckets and however many rounds it takes."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.methods import selection
from curation.methods.selection import Search, bits_of, counted, narrowed, summed, value_of

FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([-0.0, 0.0, 1.0, -1.0, math.inf, math.nan])


def kth(values: list[float], uids: list[str], k: int, cuts: list[int]) -> tuple[float, str, int]:
    """(value, uid, rounds), as a Reduce over the buckets between `cuts` finds it."""
    edges = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    search, rounds = Search(rank=k), 0
    while not search.found:
        buckets = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        tables = [counted(bits_of(np.array(values[b])), pa.array(uids[b], pa.string()), search) for b in buckets]
        merged = tables[0]
        for table in tables[1:]:
            merged = summed([table, merged])
        search, rounds = narrowed(merged, search), rounds + 1
    return value_of(search.prefix), search.prefix[16:], rounds


def expected(values: list[float], uids: list[str], k: int) -> tuple[float, str]:
    """NaN behind all, equal values (-0.0 is 0.0) by uid."""
    pairs = [(math.isnan(v), 0.0 if math.isnan(v) else v, uid) for v, uid in zip(values, uids, strict=True)]
    is_nan, value, uid = sorted(pairs)[k - 1]
    return (math.nan if is_nan else value), uid


@pytest.mark.parametrize("gathered", [1, 3, 50_000])
@given(
    rows=st.lists(st.tuples(FLOATS, st.integers(0, 2**128 - 1)), min_size=1, max_size=30, unique_by=lambda r: r[1]),
    k=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 100), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_it_is_the_one_that_sorting_finds(gathered, rows, k, cuts):
    values, uids = [v for v, _ in rows], [f"{uid:032x}" for _, uid in rows]
    k = k % len(rows) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_GATHERED", gathered)
        value, uid, rounds = kth(values, uids, k, cuts)
    true_value, true_uid = expected(values, uids, k)
    assert uid == true_uid and (value == true_value or math.isnan(value) and math.isnan(true_value))
    assert rounds <= 13  # 48 digits by four, and one to gather


def test_no_round_counts_more_than_the_bins_and_few_are_gathered():
    values = np.random.default_rng(1).normal(size=5_000)
    uids = pa.array([f"{n:032x}" for n in range(len(values))])
    first = counted(bits_of(values), uids, Search(rank=2_500))
    assert first.num_rows <= 65_536 and sum(first.column("count").to_pylist()) == len(values)
    assert kth(values.tolist(), uids.to_pylist(), 2_500, [1_000])[0] == sorted(values.tolist())[2_499]
