"""Exactly so many of each value stay, those with the smallest draws, and a larger number only adds."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.methods import first_of_each
from curation.stages.quota import Quota
from pipeline.draws import keyed_uniform
from tests.helpers.pairs import pair, pairs_of, run_global


def tagged(num: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    tags = rng.choice(["a", "b", "c", None], num, p=[0.6, 0.2, 0.1, 0.1]).tolist()
    return pairs_of(*[pair(f"p{i}") for i in range(num)], tag=(pa.string(), tags))


def kept(pairs: pa.Table, buckets: int = 1, **how) -> dict[str | None, set[str]]:
    reasons = run_global(Quota(by="tag", **how), pairs, 0, buckets).reason.to_pylist()
    found: dict[str | None, set[str]] = {}
    for uid, tag, reason in zip(pairs["uid"].to_pylist(), pairs["tag"].to_pylist(), reasons, strict=True):
        if reason is None:
            found.setdefault(tag, set()).add(uid)
    return found


@given(
    st.integers(0, 120), st.integers(0, 60), st.integers(0, 60), st.integers(1, 4), st.sampled_from([16, 64, 65_536])
)
@settings(max_examples=40, deadline=None)
def test_those_with_the_smallest_draws_stay(num, a, others, buckets, meet):
    pairs = tagged(num)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_of_each, "_MEET", meet)
        found = kept(pairs, buckets, counts={"a": a, "*": others})
    rows = list(zip(pairs["uid"].to_pylist(), pairs["tag"].to_pylist(), strict=True))
    for group, number in ((lambda tag: tag == "a", a), (lambda tag: tag != "a", others)):
        order = sorted((keyed_uniform(0, "quota", uid), uid) for uid, tag in rows if group(tag))
        wanted = {uid for _, uid in order[:number]}
        assert {uid for tag, uids in found.items() if group(tag) for uid in uids} == wanted


def test_a_mixture_without_a_total_is_exact_and_as_large_as_can_be():
    pairs = tagged(1000)
    there = Counter(pairs["tag"].to_pylist())
    found = {tag: len(uids) for tag, uids in kept(pairs, 3, shares={"a": 0.5, "b": 0.25, "c": 0.25}).items()}
    least = min(there["b"], there["c"])
    assert found["c"] in (least, least - 1) and abs(found["b"] - found["c"]) <= 1
    assert abs(found["a"] - 2 * found["c"]) <= 2 and sum(found.values()) >= 4 * least - 1


def test_shares_are_in_any_unit():
    pairs = tagged(1000)
    assert kept(pairs, shares={"a": 2, "b": 1, "c": 1}) == kept(pairs, shares={"a": 0.5, "b": 0.25, "c": 0.25})


def test_shares_of_a_total_add_up_and_a_short_value_keeps_what_it_has():
    pairs = tagged(400)
    found = kept(pairs, shares={"a": 1, "b": 1, "c": 1}, total=100)
    assert sorted(len(each) for each in found.values()) == [33, 33, 34]
    there = Counter(pairs["tag"].to_pylist())
    found = kept(pairs, shares={"a": 1, "c": 9}, total=300, others="keep")
    assert len(found["c"]) == there["c"] and len(found["a"]) == 30 and len(found["b"]) == there["b"]


def test_more_only_adds():
    pairs = tagged(300)
    few, many = (kept(pairs, counts={"a": n, "b": n}) for n in (10, 40))
    assert few["a"] < many["a"] and few["b"] < many["b"] and set(many) == {"a", "b"}


def test_hosts_and_captions_are_values_too():
    rows = [pair(f"p{i}", "x", url=f"http://h{i % 3}.test/{i}") for i in range(30)]
    pairs = pairs_of(*rows)
    reasons = run_global(Quota(by="host", counts={"h0.test": 4, "h1.test": 2}), pairs).reason.to_pylist()
    hosts = [url[7:14] for url, reason in zip(pairs["url"].to_pylist(), reasons, strict=True) if reason is None]
    assert Counter(hosts) == {"h0.test": 4, "h1.test": 2}
    reasons = run_global(Quota(by="captions.source", counts={"alt": 5}), pairs).reason
    assert reasons.null_count == 5


@pytest.mark.parametrize(
    "how",
    [{}, {"counts": {"a": 1}, "shares": {"a": 1}}, {"counts": {}}, {"counts": {"a": 1}, "total": 3},
     {"shares": {"a": 0}}, {"counts": {"*": 1}, "others": "keep"}],
)  # fmt: skip
def test_settings_that_say_two_things_are_refused(how):
    with pytest.raises(ValidationError):
        Quota(by="tag", **how)
