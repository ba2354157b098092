"""Who keeps a caption is what comparing all texts with all says; MinHash only saves the comparing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.methods.minhash import bands, rows_for, shingles
from curation.stages.caption_minhash import CaptionMinhash
from tests.helpers.lanes import examples
from tests.helpers.pairs import pair, pairs_of, run_global, texts_of

WORDS = "red blue boat river Dog over the a of castle in winter straße 犬 flag".split()


def said(num: int, seed: int) -> list[list[str]]:
    """Captions of each pair: sentences, and the same with a word or a letter changed."""
    rng = np.random.default_rng(seed)
    base = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(max(num // 5, 1))]

    def one() -> str:
        words = base[rng.integers(len(base))].split()
        if rng.random() < 0.6:
            words[rng.integers(len(words))] = str(rng.choice(WORDS))
        return ("  " if rng.random() < 0.3 else " ").join(words) + str(rng.choice(["", "!", " x", "."]))

    return [[one() for _ in range(rng.integers(0, 3))] for _ in range(num)]


def jaccard(a: str, b: str, width: int) -> float:
    one, other = ({text[at : at + width] for at in range(max(len(text) - width + 1, 1))} for text in (a, b))
    return len(one & other) / len(one | other)


def oracle(rows: list[tuple[str, list[str]]], threshold: float, width: int, most: int) -> dict[str, list[str]]:
    """uid -> captions kept; pairs rank by the number of captions, then uid."""
    fold = {text: " ".join(text.casefold().split()) for _, texts in rows for text in texts}
    heads: list[str] = []
    head_of = {}
    for text in sorted(set(fold.values()), key=lambda t: (-len(t), t)):
        mine = [head for head in heads if jaccard(text, head, width) >= threshold]
        head_of[text] = mine[0] if mine else text
        heads += [] if mine else [text]
    kept = {}
    for head in heads:
        having = [(-len(texts), uid) for uid, texts in rows if any(head_of[fold[text]] == head for text in texts)]
        kept[head] = {uid for _, uid in sorted(having)[:most]}
    return {uid: [text for text in texts if uid in kept[head_of[fold[text]]]] for uid, texts in rows}


@given(
    num=st.integers(0, 60), seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.8, 1.0]),
    width=st.sampled_from([1, 3, 5]), most=st.integers(1, 3), buckets=st.integers(1, 4), slots=st.integers(1, 4),
)  # fmt: skip
@examples(30)
def test_captions_that_stay_are_those_of_comparing_all_with_all(num, seed, threshold, width, most, buckets, slots):
    lists = said(num, seed)
    pairs = pairs_of(*[pair(f"n{i}", *texts) for i, texts in enumerate(lists)])
    how = {"hashes": 512, "recall": 0.9999999, "survivor": ["num_captions"]}
    stage = CaptionMinhash(threshold=threshold, shingle=width, max_pairs=most, **how)
    verdicts = run_global(stage, pairs, 0, buckets, slots)
    rows = [(uid, [c["text"] for c in each]) for uid, each in zip(*_columns(pairs), strict=True)]
    wanted = oracle(rows, threshold, width, most)
    assert {
        uid: [c["text"] for c in each] for uid, each in zip(*_columns(pairs, verdicts.captions), strict=True)
    } == wanted
    gone = [
        uid for uid, reason in zip(pairs.column("uid").to_pylist(), verdicts.reason.to_pylist(), strict=True) if reason
    ]
    assert gone == [uid for uid, texts in rows if texts and not wanted[uid]]
    assert verdicts.caption_drops.get("near_copy", 0) == sum(len(texts) - len(wanted[uid]) for uid, texts in rows)


def _columns(pairs, lists=None):
    lists = pairs.column("captions") if lists is None else lists
    return pairs.column("uid").to_pylist(), lists.to_pylist()


def test_the_chance_of_meeting_is_that_of_the_formula():
    """Pairs of texts of a known Jaccard share a band about as often as 1 - (1 - j^rows)^bands says."""
    rng, met, wanted = np.random.default_rng(0), [], []
    for _ in range(400):
        a = "".join(rng.choice(list("abcdefghijklmnop"), 60))
        at = int(rng.integers(0, 50))
        b = a[:at] + "".join(rng.choice(list("qrstuvwxyz"), 6)) + a[at + 6 :]
        one = bands([a, b], 3, 30, 3)
        met.append((one[:, 0] == one[:, 1]).any())
        wanted.append(1 - (1 - jaccard(a, b, 3) ** 3) ** 10)
    low = np.sqrt(np.sum(np.array(wanted) * (1 - np.array(wanted))))
    assert abs(np.sum(met) - np.sum(wanted)) < 4 * low + 1
    assert 0.5 < np.mean(wanted) < 0.999


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95])
def test_bands_are_as_long_as_the_recall_allows(threshold):
    rows = rows_for(threshold, 128, 0.99)
    chance = [1 - (1 - threshold**r) ** (128 // r) for r in (rows, rows + 1)]
    assert chance[0] >= 0.99 > chance[1]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=8), st.integers(1, 6))
def test_shingles_are_the_distinct_runs_of_characters(texts, width):
    found, starts = shingles(texts, width)
    sets = [{text[at : at + width] for at in range(max(len(text) - width + 1, 1))} for text in texts]
    assert np.diff(starts).tolist() == [len(each) for each in sets]
    hashed = [set(found[a:b].tolist()) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    for i, one in enumerate(sets):
        for j, other in enumerate(sets):
            assert len(hashed[i] & hashed[j]) == len(one & other)


def test_one_pair_keeps_what_is_nearly_said_by_many_and_its_own_other_captions_stay():
    pairs = pairs_of(
        pair("a", "A red boat on the river", "Something else"), pair("b", "a red boat on the river!"), pair("c", "boat")
    )
    verdicts = run_global(CaptionMinhash(survivor=["num_captions"]), pairs)
    assert texts_of(pairs, verdicts) == {"a": ["A red boat on the river", "Something else"], "b": [], "c": ["boat"]}
    detail = dict(zip(pairs.column("url").to_pylist(), verdicts.detail.to_pylist(), strict=True))
    assert detail["http://x.test/b"] == "a red boat on the river!"


def test_too_few_hashes_for_the_recall_are_refused():
    with pytest.raises(ValidationError, match="more hashes"):
        CaptionMinhash(threshold=0.1, hashes=4, recall=0.99)
