"""Balancing keeps what the formula says, nested in t and in target size, whatever the cut and the order."""

import itertools
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.stage import Context
from curation.stages.balance import Balance
from curation.table import captions
from pipeline.draws import keyed_uniform
from tests.helpers.concepts import Said, counted, mentioning, with_concepts
from tests.helpers.cuts import reduced
from tests.helpers.lanes import examples, sampled
from tests.helpers.pairs import by_url, run_global, same_verdicts, texts_of

UNITS = ("text", "one_text", "pair")


def skewed(num: int = 3000, seed: int = 0, most: int = 4) -> pa.Table:
    """A head of few entries and a long tail; some texts match nothing, pairs have one to three captions."""
    rng = np.random.default_rng(seed)

    def entries() -> list[int]:
        return sorted({int(e) for e in np.minimum(rng.zipf(1.5, rng.integers(0, 4)), 400)})

    return with_concepts([[entries() for _ in range(rng.integers(1, most))] for _ in range(num)])


def said_by(pairs: pa.Table) -> list[list[Said]]:
    return [[(c["text"], c["concepts"]) for c in item] for item in pairs.column("captions").to_pylist()]


def probability(entries, counts: dict[int, int], t: float) -> float:
    return 1 - math.prod(1 - t / max(counts[e], t) for e in sorted(entries))


def naive(pairs: pa.Table, unit: str, t: float, keeps: bool, seed: int = 0) -> list[tuple[str | None, list[str]]]:
    """(reason, texts left) of every pair, one text after the other."""
    counts = counted(said_by(pairs))
    found = []
    for uid, item in zip(pairs.column("uid").to_pylist(), said_by(pairs), strict=True):
        texts = dict(item)
        if unit == "pair":
            own = {entry for entries in texts.values() for entry in entries}
            lost = bool(own) and keyed_uniform(seed, "balance", uid) >= probability(own, counts, t)
            unmatched = not own and not keeps
            found.append(("unmatched" if unmatched else "sampled_out" if lost else None, [text for text, _ in item]))
            continue
        lots = sorted(text for text, entries in texts.items() if entries or keeps)
        if unit == "one_text" and lots:
            lots = [min(lots, key=lambda text, uid=uid: keyed_uniform(seed, "balance", "pick", uid, text))]
        stays = [
            text
            for text in lots
            if not texts[text] or keyed_uniform(seed, "balance", uid, text) < probability(texts[text], counts, t)
        ]
        nothing_to_lose = keeps and not item
        reason = None if stays or nothing_to_lose else "sampled_out" if lots else "unmatched"
        found.append((reason, [text for text, _ in item if text in stays]))
    return found


def outcome(pairs: pa.Table, verdicts) -> list[tuple[str | None, list[str]]]:
    lists = captions.column(pairs) if verdicts.captions is None else verdicts.captions
    texts = [[caption["text"] for caption in item] for item in lists.to_pylist()]
    return list(zip(verdicts.reason.to_pylist(), texts, strict=True))


AIMS = list(itertools.product([1, 5, 20.5, 100, 10_000], ["drop", "keep"], UNITS))
FEW = [at + 6 * (at % 5) for at in range(6)]  # each t, and each unit with each way of the unmatched


@pytest.mark.parametrize(("t", "unmatched", "unit"), sampled(AIMS, *FEW))
def test_the_kept_are_those_of_the_formula(t, unmatched, unit):
    pairs = skewed(1500)
    verdicts = run_global(Balance(t=t, unmatched=unmatched, unit=unit), pairs, 0, 4, 3)
    assert outcome(pairs, verdicts) == naive(pairs, unit, t, unmatched == "keep")


crawls = st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.just(None)), max_size=5), min_size=1, max_size=14)


@given(crawls, st.data(), st.sampled_from(UNITS), st.booleans(), st.floats(0.3, 6), st.integers(0, 99))
@examples(60)
def test_small_crawls_with_repeated_texts_are_kept_by_the_formula_in_any_cut_and_order(
    crawl, data, unit, keeps, t, seed
):
    """A text has the same entries wherever it stands; the order of captions changes nothing but their order."""
    of = {text: data.draw(st.lists(st.integers(0, 3), unique=True, max_size=3).map(sorted)) for text in "abcd"}
    crawl = [[(text, of[text]) for text, _ in item] for item in crawl]
    pairs = mentioning(crawl)
    stage = Balance(t=t, unit=unit, unmatched="keep" if keeps else "drop")
    whole = run_global(stage, pairs, seed)
    assert outcome(pairs, whole) == naive(pairs, unit, t, keeps, seed)
    cut = run_global(stage, pairs, seed, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    assert same_verdicts(whole, cut)
    turned = mentioning([data.draw(st.permutations(item)) for item in crawl])
    other = run_global(stage, turned, seed)
    assert other.reason.to_pylist() == whole.reason.to_pylist() and other.caption_drops == whole.caption_drops
    assert [sorted(texts) for _, texts in outcome(turned, other)] == [
        sorted(texts) for _, texts in outcome(pairs, whole)
    ]


@given(crawls, st.data(), st.sampled_from(UNITS), st.booleans(), st.integers(1, 12), st.integers(0, 99))
@examples(60)
def test_a_target_is_met_in_small_crawls_in_any_cut(crawl, data, unit, keeps, target, seed):
    of = {text: data.draw(st.lists(st.integers(0, 3), unique=True, max_size=3).map(sorted)) for text in "abcd"}
    pairs = mentioning([[(text, of[text]) for text, _ in item] for item in crawl])
    stage = Balance(target_pairs=target, unit=unit, unmatched="keep" if keeps else "drop")
    whole = run_global(stage, pairs, seed)
    assert same_verdicts(whole, run_global(stage, pairs, seed, data.draw(st.integers(1, 5)), 3))
    could = sum(keeps or any(entries for _, entries in item) for item in said_by(pairs))
    assert whole.reason.null_count == min(target, could)


def test_the_number_kept_is_within_four_sigma_of_its_expectation():
    pairs = with_concepts([[[0, 1 + i % 50]] for i in range(4000)])  # entry 0: 4000 texts, the others 80 each
    p = 1 - (1 - 20 / 4000) * (1 - 20 / 80)
    for seed in range(5):
        kept = run_global(Balance(t=20), pairs, seed).reason.null_count
        assert abs(kept - 4000 * p) < 4 * math.sqrt(4000 * p * (1 - p))


def test_a_text_with_a_tail_entry_is_kept_for_certain():
    pairs = with_concepts([[[0]]] * 500 + [[[0, 1], [0]]] * 5)
    verdicts = run_global(Balance(t=5), pairs)
    texts, reasons = texts_of(pairs, verdicts), by_url(pairs, verdicts.reason)
    assert all(reasons[f"p{i}"] is None and "text 0" in texts[f"p{i}"] for i in range(500, 505))
    assert sum(reason is None for reason in reasons.values()) < 40


def test_losing_captions_are_dropped_and_counted_and_a_pair_goes_with_its_last():
    """Entries 0 and 1 are so frequent that t keeps nothing of them here; 2 is rare."""
    pairs = with_concepts([[[0], [1], [2], []], [[0], []], [[]], *[[[0, 1]]] * 60])
    verdicts = run_global(Balance(t=1e-9), pairs)
    texts, reasons = texts_of(pairs, verdicts), by_url(pairs, verdicts.reason)
    assert (texts["p0"], reasons["p0"]) == ([], "sampled_out")
    verdicts = run_global(Balance(t=1), pairs)
    texts, reasons = texts_of(pairs, verdicts), by_url(pairs, verdicts.reason)
    assert (texts["p0"], reasons["p0"]) == (["text 2"], None)
    assert (texts["p1"], reasons["p1"]) == ([], "sampled_out") and reasons["p2"] == "unmatched"
    assert verdicts.caption_drops["unmatched"] == 3
    lost = 2 + 1 + sum(reasons[f"p{i}"] == "sampled_out" for i in range(3, 63))
    assert verdicts.caption_drops["sampled_out"] == lost
    kept = run_global(Balance(t=1, unmatched="keep"), pairs)
    assert texts_of(pairs, kept)["p0"] == ["text 2", "text 3"] and texts_of(pairs, kept)["p1"] == ["text 1"]
    assert set(kept.caption_drops) == {"sampled_out"} and by_url(pairs, kept.reason)["p2"] is None


def test_one_text_leaves_at_most_one_text_and_picks_all_alike():
    pairs = with_concepts([[[0], [1], [2], []]] * 3000)
    verdicts = run_global(Balance(t=10**6, unit="one_text"), pairs)
    assert verdicts.reason.null_count == 3000
    assert verdicts.caption_drops == {"not_picked": 6000, "unmatched": 3000}
    times = Counter(text for texts in texts_of(pairs, verdicts).values() for text in texts)
    assert set(times) == {"text 0", "text 1", "text 2"}
    assert all(abs(number - 1000) < 4 * math.sqrt(3000 * 2 / 9) for number in times.values())
    kept = run_global(Balance(t=10**6, unit="one_text", unmatched="keep"), pairs)
    assert len({text for texts in texts_of(pairs, kept).values() for text in texts}) == 4
    assert kept.caption_drops == {"not_picked": 9000}


def test_which_text_is_picked_says_nothing_of_whether_it_stays():
    pairs = with_concepts([[[0], [0]]] * 4000)
    kept = run_global(Balance(t=2000, unit="one_text"), pairs).reason.null_count
    assert abs(kept - 1000) < 4 * math.sqrt(4000 * 0.25 * 0.75)  # the smaller of two uniforms would keep 1750


def test_texts_of_a_pair_and_pairs_of_a_text_draw_apart():
    """The same two texts under 4,000 pairs, each kept with one half: all four outcomes, a quarter each."""
    pairs = with_concepts([[[0], [1]]] * 4000)
    times = Counter(tuple(texts) for texts in texts_of(pairs, run_global(Balance(t=2000), pairs)).values())
    assert len(times) == 4 and all(abs(number - 1000) < 4 * math.sqrt(4000 * 3 / 16) for number in times.values())


def test_a_text_that_a_pair_carries_twice_counts_once_and_stays_or_goes_whole():
    twice = mentioning([[("a dog", [0]), ("a dog", [0])]] * 10 + [[("a dog", [0]), ("a red dog", [0, 1])]] * 3)
    stage = Balance(t=10, unmatched="keep")
    folded = reduced(stage, [twice], Context())
    assert dict(zip(folded["entry"].to_pylist(), folded["count"].to_pylist(), strict=True)) == {-1: 0, 0: 16, 1: 3}
    assert {len(texts) for name, texts in texts_of(twice, run_global(stage, twice)).items() if int(name[1:]) < 10} == {
        0,
        2,
    }
    once = mentioning([[("a dog", [0])]] * 10 + [[("a dog", [0]), ("a red dog", [0, 1])]] * 3)
    assert run_global(stage, twice).reason.to_pylist() == run_global(stage, once).reason.to_pylist()


def kept(stage: Balance, pairs: pa.Table, seed: int = 0) -> set[str]:
    reasons = run_global(stage, pairs, seed).reason.to_pylist()
    return {u for u, r in zip(pairs.column("uid").to_pylist(), reasons, strict=True) if r is None}


def kept_texts(stage: Balance, pairs: pa.Table, seed: int = 0) -> set[tuple[str, str]]:
    """(pair, text) of all that stays."""
    verdicts = run_global(stage, pairs, seed)
    reasons = by_url(pairs, verdicts.reason)
    return {(name, t) for name, texts in texts_of(pairs, verdicts).items() if reasons[name] is None for t in texts}


@pytest.mark.parametrize("unit", UNITS)
def test_a_larger_t_only_adds_texts(unit):
    pairs = skewed()
    sets = [kept_texts(Balance(t=t, unit=unit), pairs) for t in (0.5, 1, 3, 10, 30, 100, 1000, 1e9)]
    assert all(small <= large for small, large in zip(sets, sets[1:], strict=False))
    assert len(sets[0]) < len(sets[3]) < len(sets[-1])


@pytest.mark.parametrize("unmatched", ["drop", "keep"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_target_is_met_exactly_and_nested(unmatched, unit):
    pairs = skewed(1500)
    targets = (1, 100, 101, 500, 1000, 1200)

    def stage(**aim: float) -> Balance:
        return Balance(unmatched=unmatched, unit=unit, **aim)

    sets = [kept_texts(stage(target_pairs=n), pairs) for n in targets]
    matched = len(kept(stage(t=1e9), pairs))
    assert [len({name for name, _ in each}) for each in sets] == [min(n, matched) for n in targets]
    assert all(small <= large for small, large in zip(sets, sets[1:], strict=False))
    assert len(kept(stage(target_pairs=10**6), pairs)) == matched


@pytest.mark.parametrize("unit", UNITS)
def test_a_target_keeps_what_the_t_it_comes_to_would_keep(unit):
    pairs = skewed()
    stage = Balance(target_pairs=700, unit=unit)
    t = reduced(stage, [pairs], Context()).column("t")[0].as_py()
    assert kept_texts(stage, pairs) >= kept_texts(Balance(t=t * (1 - 1e-9), unit=unit), pairs)
    assert kept_texts(stage, pairs) <= kept_texts(Balance(t=t * (1 + 1e-9), unit=unit), pairs)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("aim", [{"t": 7}, {"target_pairs": 99}, {"target_pairs": 200, "unmatched": "keep"}])
def test_the_cut_into_buckets_and_slots_changes_nothing(aim, unit):
    pairs, stage = skewed(400), Balance(unit=unit, **aim)
    whole = run_global(stage, pairs)
    assert all(same_verdicts(whole, run_global(stage, pairs, 0, b, s)) for b, s in [(1, 5), (2, 1), (7, 4), (50, 16)])


def test_another_seed_keeps_others():
    pairs = skewed()
    assert kept(Balance(t=3), pairs, 0) != kept(Balance(t=3), pairs, 1)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("aim", [{"t": 5}, {"target_pairs": 2}, {"target_pairs": 2, "unmatched": "keep"}])
def test_nothing_that_matches_and_nothing_at_all(aim, unit):
    stage = Balance(unit=unit, **aim)
    pairs = with_concepts([[[]], [[], []], [[]]])
    expected = 2 if stage.unmatched == "keep" else 0
    assert run_global(stage, pairs, 0, 2, 2).reason.null_count == expected
    assert len(run_global(stage, pairs.slice(0, 0)).reason) == 0


@pytest.mark.parametrize("aims", [{}, {"t": 1, "target_pairs": 1}, {"t": 0}, {"target_pairs": 0}])
def test_exactly_one_aim_is_asked_for(aims):
    with pytest.raises(ValidationError):
        Balance(**aims)


@pytest.mark.parametrize("unit", ["text", "one_text", "pair"])
def test_the_report_says_how_many_pairs_were_to_be_expected(unit):
    """Against as many runs with other seeds: their mean and spread are what the chances say."""
    pairs = skewed(600)
    stage = Balance(t=20, unit=unit, unmatched="keep")
    state = stage.finish(stage.merge([stage.map(pairs, None, Context(0))]), None, Context(0))
    told = [stage.judge(pairs, state, Context(seed)) for seed in range(60)]
    kept = [verdicts.reason.null_count for verdicts in told]
    assert [verdicts.counts["stayed"] for verdicts in told] == kept
    [(_, expected, deviation, actual, off)] = stage.sections({"others": told[0].counts}, state)[0].rows
    mean = np.mean([verdicts.counts["expected_millionths"] for verdicts in told]) / 1e6  # the picks move it a little
    assert abs(np.mean(kept) - mean) < 4 * deviation / len(kept) ** 0.5 and actual == kept[0]
    assert abs(mean - expected) < 2 * deviation
    if unit != "one_text":  # which text is picked is drawn, too
        assert 0.7 < np.std(kept) / deviation < 1.3
    assert off == pytest.approx((actual - expected) / deviation, abs=0.02)
    halves = [stage.judge(part, state, Context(0)).counts for part in (pairs.slice(0, 77), pairs.slice(77))]
    assert {name: sum(half[name] for half in halves) for name in halves[0]} == told[0].counts
