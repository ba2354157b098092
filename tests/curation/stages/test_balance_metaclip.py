"""Balancing against MetaCLIP's samplers to the letter: what stays of the head does not depend on captions a pair."""

import itertools
import random
import statistics

import pytest

from curation.stages.balance import Balance
from tests.helpers.concepts import Said, counted, mentioning, metaclip, skewed_texts
from tests.helpers.lanes import sampled
from tests.helpers.pairs import run_global

NUM_TEXTS, T, HEAD = 30_000, 200, 20


def crawl(captions: int) -> list[list[Said]]:
    """The same 30,000 texts, dealt to pairs of so many captions."""
    texts = [(f"text {i}", entries) for i, entries in enumerate(skewed_texts(NUM_TEXTS))]
    return [texts[at : at + captions] for at in range(0, NUM_TEXTS, captions)]


def head(urls: list[list[Said]], entries: list[int]) -> float:
    """Mean count of the given entries."""
    counts = counted(urls)
    return statistics.mean(counts.get(entry, 0) for entry in entries)


def top(urls: list[list[Said]]) -> list[int]:
    counts = counted(urls)
    return sorted(counts, key=lambda entry: (-counts[entry], entry))[:HEAD]


def balanced(stage: Balance, urls: list[list[Said]], seed: int) -> list[list[Said]]:
    """What the stage keeps of each pair."""
    pairs = mentioning(urls)
    verdicts = run_global(stage, pairs, seed, 4, 3)
    lists = (verdicts.captions or pairs.column("captions")).to_pylist()
    return [
        [(c["text"], c["concepts"]) for c in item] if reason is None else []
        for item, reason in zip(lists, verdicts.reason.to_pylist(), strict=True)
    ]


@pytest.mark.parametrize(("unit", "captions"), sampled(itertools.product(["text", "one_text"], [1, 3, 10]), 1))
def test_as_much_of_the_head_stays_as_in_metaclip_however_many_captions_a_pair_has(captions, unit):
    urls = crawl(captions)
    entries = top(urls)
    assert head(urls, entries) > 3 * T
    kept = [metaclip(urls, T, random.Random(run), unit == "one_text") for run in range(8)]
    mine = balanced(Balance(t=T, unit=unit), urls, 5)
    for of in (lambda some: head(some, entries), lambda some: sum(map(len, some)), lambda some: sum(map(bool, some))):
        oracle = [of(each) for each in kept]
        # Nine samples of one distribution: the ninth is within six standard deviations of the mean of eight.
        assert abs(of(mine) - statistics.mean(oracle)) < 6 * statistics.stdev(oracle) + 1e-9


def test_by_default_texts_draw_and_three_captions_a_pair_are_balanced_like_one():
    one, three, ten = (balanced(Balance(t=T), crawl(captions), 1) for captions in (1, 3, 10))
    entries = top(crawl(1))
    assert head(three, entries) == pytest.approx(head(one, entries), rel=0.03)
    assert head(ten, entries) == pytest.approx(head(one, entries), rel=0.03)
    assert head(balanced(Balance(t=T, unit="pair"), crawl(10), 1), entries) > 1.5 * head(ten, entries)


@pytest.mark.exhaustive
def test_over_many_seeds_a_text_stays_as_often_as_in_metaclip():
    """Texts of one pair: a head entry, two head entries, a tail entry, nothing; counts come from a crowd."""
    mine = [("a", [0]), ("b", [0, 1]), ("c", [0, 2]), ("d", [])]
    crowd = [[("x", [0])]] * 57 + [[("y", [1])]] * 39
    pairs = mentioning([mine, *crowd])
    at = pairs.column("url").to_pylist().index("http://x.test/p0")
    seeds = 1500
    for unit in ("text", "one_text"):
        stays = dict.fromkeys("abcd", 0)
        for seed in range(seeds):
            for caption in run_global(Balance(t=20, unit=unit), pairs, seed).captions[at].as_py():
                stays[caption["text"]] += 1
        literal = dict.fromkeys("abcd", 0)
        for run in range(seeds):
            for text, _ in metaclip([mine, *crowd], 20, random.Random(run), unit == "one_text")[0]:
                literal[text] += 1
        for text, times in stays.items():
            p = literal[text] / seeds
            assert abs(times - literal[text]) <= 5 * (2 * seeds * p * (1 - p)) ** 0.5, (unit, text, times, literal)
