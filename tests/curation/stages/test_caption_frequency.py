"""A shared caption is bounded exactly, by a keyed choice that no cut of the work can change."""

from collections import Counter

import pytest

from curation.stages.caption_frequency import CaptionFrequency
from tests.helpers.pairs import by_url, pair, pairs_of, run_global, same_verdicts, texts_of


def crowd():
    rows = [pair(f"s{i}", "gramastar" if i % 2 else "  GramaStar") for i in range(40)]
    rows += [pair(f"t{i}", "Gramastar", f"star number {i}") for i in range(20)]
    rows += [pair(f"u{i}", f"unique {i}") for i in range(20)]
    return pairs_of(*rows)


def kept(pairs, verdicts) -> set[str]:
    """Names of the pairs that still carry the shared caption."""
    found = texts_of(pairs, verdicts)
    return {name for name, texts in found.items() if any(text.lower().strip().endswith("star") for text in texts)}


def test_a_sample_of_exactly_max_pairs_keeps_the_caption():
    pairs = crowd()
    verdicts = run_global(CaptionFrequency(max_pairs=7), pairs)
    assert len(kept(pairs, verdicts)) == 7
    assert verdicts.caption_drops == {"frequent": 53}
    reasons = by_url(pairs, verdicts.reason)
    assert Counter(reasons.values()) == {
        None: 40 + len([n for n in kept(pairs, verdicts) if n[0] == "s"]),
        "frequent": 40 - len([n for n in kept(pairs, verdicts) if n[0] == "s"]),
    }
    assert all(reasons[f"t{i}"] is None and reasons[f"u{i}"] is None for i in range(20))


def test_drop_all_takes_the_caption_from_every_pair():
    pairs = crowd()
    verdicts = run_global(CaptionFrequency(max_pairs=59, excess="drop_all"), pairs)
    assert kept(pairs, verdicts) == set() and verdicts.caption_drops == {"frequent": 60}


@pytest.mark.parametrize("excess", ["keep_sample", "drop_all"])
def test_nothing_happens_at_the_bound(excess):
    verdicts = run_global(CaptionFrequency(max_pairs=60, excess=excess), crowd())
    assert verdicts.reason.null_count == 80 and verdicts.caption_drops == {}


def test_a_larger_bound_only_adds_captions():
    pairs = crowd()
    sets = [kept(pairs, run_global(CaptionFrequency(max_pairs=n), pairs)) for n in (1, 2, 5, 20, 59, 60)]
    assert [len(each) for each in sets] == [1, 2, 5, 20, 59, 60]
    assert all(small < large for small, large in zip(sets, sets[1:], strict=False))


@pytest.mark.parametrize("captions", [1, 3, 10])
def test_every_shared_text_stays_on_so_many_pairs_however_many_captions_a_pair_has(captions):
    pairs = pairs_of(*[pair(f"p{i}", *(f"shared {(i + k) % 10}" for k in range(captions))) for i in range(200)])
    verdicts = run_global(CaptionFrequency(max_pairs=7), pairs)
    times = Counter(text for texts in texts_of(pairs, verdicts).values() for text in texts)
    assert times == {f"shared {k}": 7 for k in range(10)}


def test_texts_under_the_same_pairs_stay_on_samples_of_their_own():
    """Else the same half of the pairs would keep both, and the other half would go."""
    pairs = pairs_of(*[pair(f"p{i}", "one", "Two") for i in range(2000)])
    both = Counter(
        len(texts) for texts in texts_of(pairs, run_global(CaptionFrequency(max_pairs=1000), pairs)).values()
    )
    assert both[1] + 2 * both[2] == 2000 and abs(both[2] - 500) < 5 * (2000 / 16) ** 0.5


def test_one_text_in_several_spellings_has_one_fate_in_a_pair():
    pairs = pairs_of(*[pair(f"p{i}", "one  text", "One Text") for i in range(60)])
    left = [len(texts) for texts in texts_of(pairs, run_global(CaptionFrequency(max_pairs=20), pairs)).values()]
    assert Counter(left) == {2: 20, 0: 40}


def test_another_seed_keeps_others():
    pairs = crowd()
    stage = CaptionFrequency(max_pairs=10)
    assert kept(pairs, run_global(stage, pairs, 0)) != kept(pairs, run_global(stage, pairs, 1))


@pytest.mark.parametrize("excess", ["keep_sample", "drop_all"])
def test_the_cut_into_buckets_and_slots_changes_nothing(excess):
    pairs, stage = crowd(), CaptionFrequency(max_pairs=7, excess=excess)
    whole = run_global(stage, pairs)
    assert all(same_verdicts(whole, run_global(stage, pairs, 0, b, s)) for b, s in [(1, 3), (2, 1), (7, 4), (80, 16)])


def test_a_pair_counts_once_though_it_says_the_text_twice():
    pairs = pairs_of(*[pair(f"p{i}", "same", "Same") for i in range(3)])
    assert run_global(CaptionFrequency(max_pairs=3), pairs).caption_drops == {}


def test_no_pairs_no_verdicts():
    assert len(run_global(CaptionFrequency(max_pairs=1), crowd().slice(0, 0)).reason) == 0
