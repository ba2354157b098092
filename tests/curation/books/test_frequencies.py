"""The most frequent words are exact and the same whatever the buckets, the slots and the order of completion."""

import random
from collections import Counter
from types import SimpleNamespace

import pyarrow as pa
import pytest

from curation.books import frequencies, tally


def told(folder, buckets: list[list[str]], slots: int, seed: int = 0, size: int = 1) -> dict[str, list]:
    """The tops of `buckets`, each a list of texts; groups of `size` buckets, all tasks in a shuffled order."""
    job, order = SimpleNamespace(emit_folder=str(folder)), random.Random(seed)
    firsts = list(range(0, len(buckets), size))
    for first in order.sample(firsts, len(firsts)):
        groups = buckets[first : first + size]
        tables = [
            frequencies.counted(what, pa.array(some, pa.string())) for some in groups for what in ("before", "language")
        ]
        frequencies.publish(job, first, slots, tables)
    return frequencies.merged([frequencies.tops(job, slot, firsts) for slot in order.sample(range(slots), slots)])


def expected(buckets: list[list[str]], most: int) -> list[tuple[str, int]]:
    counts = Counter(text for some in buckets for text in some)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]


@pytest.mark.parametrize(("slots", "size", "seed"), [(1, 1, 0), (1, 5, 1), (3, 2, 2), (16, 1, 3), (50, 7, 4)])
def test_counts_are_those_of_a_plain_count(tmp_path, slots, size, seed):
    rng = random.Random(seed)
    alphabet = ["a", "b", "é", "\U0001f600", "\ufffd", " ", "\0", "\u4e00"]
    buckets = [
        ["".join(rng.choices(alphabet, k=rng.choice([0, 1, 1, 2, 3]))) for _ in range(rng.choice([0, 5, 200]))]
        for _ in range(11)
    ]
    found = told(tmp_path, buckets, slots, seed, size)
    assert found["before"] == expected(buckets, 25)
    assert found["language"] == expected(buckets, 1000) and found["after"] == found["source"] == []


def test_a_text_that_every_bucket_has_once_is_found_among_many_that_one_bucket_has_twice(tmp_path):
    buckets = [["the most frequent", *[f"rare {bucket} {n}" for n in range(40)] * 2] for bucket in range(30)]
    assert told(tmp_path, buckets, 4)["before"][0] == ("the most frequent", 30)


def test_a_crawl_of_made_up_languages_ends_in_a_sum(tmp_path):
    buckets = [[f"x-{bucket}-{n}" for n in range(300)] + ["en"] * 9 for bucket in range(5)]
    found = told(tmp_path, buckets, 3)["language"]
    assert len(found) == 1001 and found[0] == ("en", 45) and sum(pairs for _, pairs in found) == 5 * 309
    assert found[-1] == (frequencies.OTHERS, 5 * 309 - 45 - 999)


def test_slots_grow_with_the_pairs():
    assert [frequencies.slots_for(pairs) for pairs in (0, 1, 10**6, 10**9)] == [1, 1, 2, 2000]


@pytest.mark.parametrize("buckets", [1, 16, 256, 512, 8192])
def test_every_bucket_is_in_one_group_and_few_tallies_meet(buckets):
    groups = tally.groups_of(buckets)
    assert [bucket for group in groups for bucket in group] == list(range(buckets)) and len(groups) <= 256
