"""Copies become one pair with all their captions, the same one however the work is cut."""

import numpy as np
import pyarrow as pa
import pytest

from curation.stages.exact_duplicates import ExactDuplicates
from tests.helpers.pairs import by_url, pair, pairs_of, run_global, same_verdicts, texts_of


def crowd():
    """Groups by bytes: {a, b}, {c, d}; by pixels all four; e and f stand alone."""
    rows = [
        pair("a", "one", image_sha256="s1"),
        pair("b", "two", "one", image_sha256="s1"),
        pair("c", "three", image_sha256="s2"),
        pair("d", "a much longer caption", image_sha256="s2"),
        pair("e", "one", image_sha256="s3"),
        pair("f", "two", image_sha256="s4"),
    ]
    pixels = ["p1", "p1", "p1", "p1", "p4", "p5"]
    sides = [10, 10, 20, 10, 10, 10]
    return pairs_of(*rows, width=(pa.int32(), sides), height=(pa.int32(), [10] * 6), pixels=(pa.string(), pixels))


def test_same_bytes_and_same_pixels_join_into_one_group():
    pairs = crowd()
    verdicts = run_global(ExactDuplicates(), pairs)
    uid = by_url(pairs, pairs.column("uid"))
    assert by_url(pairs, verdicts.reason) == {"a": "copy", "b": "copy", "c": None, "d": "copy", "e": None, "f": None}
    assert by_url(pairs, verdicts.detail) == dict.fromkeys("abd", uid["c"]) | dict.fromkeys("cef")
    # The survivor's own first, then by rank: b has two captions, d a longer one than a.
    assert texts_of(pairs, verdicts)["c"] == ["three", "two", "one", "a much longer caption"]
    assert texts_of(pairs, verdicts)["e"] == ["one"]


@pytest.mark.parametrize(
    ("by", "removed"), [(["bytes"], {"a", "c"}), (["pixels"], {"a", "b", "d"}), (["bytes", "pixels"], {"a", "b", "d"})]
)  # by bytes it reads no sizes: equal files have equal ones
def test_what_counts_as_the_same_is_a_setting(by, removed):
    pairs = crowd()
    reasons = by_url(pairs, run_global(ExactDuplicates(by=by), pairs).reason)
    assert {name for name, reason in reasons.items() if reason} == removed


@pytest.mark.parametrize(
    ("order", "survivor"),
    [(["area"], "c"), (["num_captions"], "b"), (["longest_caption"], "d"), (["num_captions", "area"], "b"), ([], None)],
)
def test_the_survivor_is_chosen_by_the_stated_order(order, survivor):
    pairs = crowd()
    uid = by_url(pairs, pairs.column("uid"))
    verdicts = run_global(ExactDuplicates(survivor=order), pairs)
    expected = survivor or min("abcd", key=lambda name: uid[name])
    assert {d for d in verdicts.detail.to_pylist() if d} == {uid[expected]}


def test_captions_stay_apart_when_merging_is_off():
    pairs = crowd()
    verdicts = run_global(ExactDuplicates(merge_captions=False), pairs)
    assert verdicts.captions is None and verdicts.reason.null_count == 3


def test_a_survivor_takes_over_only_so_many_captions_and_keeps_its_own():
    pairs = crowd()
    assert texts_of(pairs, run_global(ExactDuplicates(max_captions=2), pairs))["c"] == ["three", "two"]
    own = pairs_of(pair("a", "x", "y", "z", image_sha256="s"), pair("b", "w", image_sha256="s"))
    verdicts = run_global(ExactDuplicates(by=["bytes"], max_captions=1), own)
    assert texts_of(own, verdicts)["a"] == ["x", "y", "z"]
    twice = pairs_of(pair("a", "x", "x", image_sha256="s"), pair("b", "x", image_sha256="s"))  # as alt and as title
    assert texts_of(twice, run_global(ExactDuplicates(by=["bytes"]), twice))["a"] == ["x", "x"]


def test_a_placeholder_seen_everywhere_goes_whole():
    rows = [pair(f"p{i}", f"caption {i}", image_sha256="grey") for i in range(9)]
    pairs = pairs_of(*rows, pair("real", "caption", image_sha256="real"))
    stage = ExactDuplicates(by=["bytes"], drop_over=8)
    reasons = by_url(pairs, run_global(stage, pairs).reason)
    assert reasons.pop("real") is None and set(reasons.values()) == {"too_many_copies"}
    assert run_global(ExactDuplicates(by=["bytes"], drop_over=9), pairs).reason.to_pylist().count("copy") == 8


def test_by_bytes_it_may_stand_before_decoding():
    assert "pixels" not in ExactDuplicates(by=["bytes"]).reads and "pixels" in ExactDuplicates().reads


@pytest.mark.parametrize("merge", [True, False])
def test_the_cut_into_buckets_and_slots_changes_nothing(merge):
    rng = np.random.default_rng(0)
    rows = [pair(f"n{i}", *(f"text {rng.integers(9)}" for _ in range(rng.integers(1, 4)))) for i in range(150)]
    for row in rows:
        row["image_sha256"] = f"s{rng.integers(200)}"
    pixels = [f"p{int(row['image_sha256'][1:]) // 2}" for row in rows]  # equal bytes, equal pixels
    sides = rng.integers(1, 4, 150).tolist()
    pairs = pairs_of(*rows, width=(pa.int32(), sides), height=(pa.int32(), [1] * 150), pixels=(pa.string(), pixels))
    stage = ExactDuplicates(merge_captions=merge)
    whole = run_global(stage, pairs)
    assert 40 < whole.reason.null_count < 140
    assert all(same_verdicts(whole, run_global(stage, pairs, 0, b, s)) for b, s in [(1, 5), (2, 1), (7, 4), (150, 16)])


def test_no_pairs_no_verdicts():
    assert len(run_global(ExactDuplicates(), crowd().slice(0, 0)).reason) == 0
    alone = run_global(ExactDuplicates(), crowd().slice(0, 1), buckets=3, slots=2)
    assert alone.reason.to_pylist() == [None]
