"""Balancing keeps what the formula says, nested in t and in target size, whatever the cut and the order."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.stages.balance import Balance, count_entries, keep_probability, threshold_t
from curation.table.captions import with_fields
from pipeline.draws import keyed_uniform
from tests.helpers.pairs import by_url, pair, pairs_of, run_global, same_verdicts


def with_concepts(lists: list[list[list[int]]]) -> pa.Table:
    """One pair per item, one caption per list of entries."""
    pairs = pairs_of(*[pair(f"p{i}", *(f"text {k}" for k in range(len(item)))) for i, item in enumerate(lists)])
    order = [int(url.rsplit("/p", 1)[1]) for url in pairs.column("url").to_pylist()]
    flat = [entries for i in order for entries in lists[i]]
    return with_fields(pairs, pa.table({"concepts": pa.array(flat, pa.list_(pa.int32()))}))


def skewed(num: int = 3000, seed: int = 0) -> pa.Table:
    """A head of few entries and a long tail; some pairs match nothing, some have two captions."""
    rng = np.random.default_rng(seed)

    def entries() -> list[int]:
        return sorted({int(e) for e in np.minimum(rng.zipf(1.5, rng.integers(0, 4)), 400)})

    return with_concepts([[entries() for _ in range(rng.integers(1, 3))] for _ in range(num)])


def naive(pairs: pa.Table, t: float, seed: int = 0, unmatched_keeps: bool = False) -> list[str | None]:
    counts: dict[int, int] = {}
    for item in pairs.column("captions").to_pylist():
        for caption in item:
            for entry in caption["concepts"]:
                counts[entry] = counts.get(entry, 0) + 1
    reasons = []
    for uid, item in zip(pairs.column("uid").to_pylist(), pairs.column("captions").to_pylist(), strict=True):
        own = {entry for caption in item for entry in caption["concepts"]}
        probability = 1 - math.prod(1 - t / max(counts[e], t) for e in sorted(own))
        lost = keyed_uniform(seed, "balance", uid) >= probability
        reasons.append((None if unmatched_keeps else "unmatched") if not own else "sampled_out" if lost else None)
    return reasons


@pytest.mark.parametrize("t", [1, 5, 20.5, 100, 10_000])
@pytest.mark.parametrize("unmatched", ["drop", "keep"])
def test_the_kept_are_those_of_the_formula(t, unmatched):
    pairs = skewed()
    verdicts = run_global(Balance(t=t, unmatched=unmatched), pairs, 0, 4, 3)
    assert verdicts.reason.to_pylist() == naive(pairs, t, 0, unmatched == "keep")


def test_the_number_kept_is_within_four_sigma_of_its_expectation():
    pairs = with_concepts([[[0, 1 + i % 50]] for i in range(4000)])  # entry 0: 4000 texts, the others 80 each
    p = 1 - (1 - 20 / 4000) * (1 - 20 / 80)
    for seed in range(5):
        kept = run_global(Balance(t=20), pairs, seed).reason.null_count
        assert abs(kept - 4000 * p) < 4 * math.sqrt(4000 * p * (1 - p))


def test_a_pair_with_a_tail_entry_is_kept_for_certain():
    pairs = with_concepts([[[0]]] * 500 + [[[0, 1]]] * 5)
    reasons = by_url(pairs, run_global(Balance(t=5), pairs).reason)
    assert all(reasons[f"p{i}"] is None for i in range(500, 505))
    assert sum(reason is None for reason in reasons.values()) < 40


def test_counts_are_over_texts_not_pairs():
    pairs = with_concepts([[[0], [0, 2]], [[2]], [[]]])
    assert count_entries(pairs, 4).tolist() == [2, 0, 2, 0]


def kept(stage: Balance, pairs: pa.Table, seed: int = 0) -> set[str]:
    reasons = run_global(stage, pairs, seed).reason.to_pylist()
    return {u for u, r in zip(pairs.column("uid").to_pylist(), reasons, strict=True) if r is None}


def test_a_larger_t_only_adds_pairs():
    pairs = skewed()
    sets = [kept(Balance(t=t), pairs) for t in (0.5, 1, 3, 10, 30, 100, 1000, 1e9)]
    assert all(small <= large for small, large in zip(sets, sets[1:], strict=False))
    assert len(sets[0]) < len(sets[3]) < len(sets[-1])


@pytest.mark.parametrize("unmatched", ["drop", "keep"])
def test_a_target_is_met_exactly_and_nested(unmatched):
    pairs = skewed()
    targets = (1, 100, 101, 500, 1000, 2000)
    sets = [kept(Balance(target_pairs=n, unmatched=unmatched), pairs) for n in targets]
    matched = len(kept(Balance(t=1e9, unmatched=unmatched), pairs))
    assert [len(each) for each in sets] == [min(n, matched) for n in targets]
    assert all(small <= large for small, large in zip(sets, sets[1:], strict=False))
    assert len(kept(Balance(target_pairs=10**6, unmatched=unmatched), pairs)) == matched


def test_a_target_keeps_what_the_t_it_comes_to_would_keep():
    pairs = skewed()
    stage = Balance(target_pairs=700)
    t = stage.fold(stage.settle(stage.survey(pairs, 0))).column("t")[0].as_py()
    assert kept(stage, pairs) >= kept(Balance(t=t * (1 - 1e-9)), pairs)
    assert kept(stage, pairs) <= kept(Balance(t=t * (1 + 1e-9)), pairs)


@given(st.lists(st.lists(st.integers(1, 1000), min_size=1, max_size=6), min_size=1, max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_the_threshold_is_where_the_probability_passes_the_draw(lists, data):
    rows = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
    counts = np.array([c for each in lists for c in each], float)
    draw = np.array([data.draw(st.floats(0, 1, exclude_max=True)) for _ in lists])
    needed = threshold_t(rows, counts, draw)
    for i, t in enumerate(needed):
        own = counts[rows == i]
        above = keep_probability(np.zeros(len(own), int), own, 1, t * (1 + 1e-12) + 1e-300)[0]
        below = keep_probability(np.zeros(len(own), int), own, 1, t * (1 - 1e-12))[0]
        assert above > draw[i] - 1e-12 and below <= draw[i] + 1e-12 and t <= own.min()


@pytest.mark.parametrize("stage", [Balance(t=7), Balance(target_pairs=99), Balance(target_pairs=200, unmatched="keep")])
def test_the_cut_into_buckets_and_slots_changes_nothing(stage):
    pairs = skewed(400)
    whole = run_global(stage, pairs)
    assert all(same_verdicts(whole, run_global(stage, pairs, 0, b, s)) for b, s in [(1, 5), (2, 1), (7, 4), (400, 16)])


def test_another_seed_keeps_others():
    pairs = skewed()
    assert kept(Balance(t=3), pairs, 0) != kept(Balance(t=3), pairs, 1)


@pytest.mark.parametrize("stage", [Balance(t=5), Balance(target_pairs=2), Balance(target_pairs=2, unmatched="keep")])
def test_nothing_that_matches_and_nothing_at_all(stage):
    pairs = with_concepts([[[]], [[], []], [[]]])
    expected = 2 if stage.unmatched == "keep" else 0
    assert run_global(stage, pairs, 0, 2, 2).reason.null_count == expected
    assert len(run_global(stage, pairs.slice(0, 0)).reason) == 0


@pytest.mark.parametrize("aims", [{}, {"t": 1, "target_pairs": 1}, {"t": 0}, {"target_pairs": 0}])
def test_exactly_one_aim_is_asked_for(aims):
    with pytest.raises(ValidationError):
        Balance(**aims)
