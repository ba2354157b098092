"""Lots: who draws, with which number, for which entries."""

import pytest

from curation.methods.concepts.lottery import NONE, lots_of
from curation.methods.concepts.mentions import mentions
from pipeline.draws import keyed_uniform
from tests.helpers.concepts import mentioning

CRAWL = [[("b", [4, 2]), ("a", [2])], [], [("x", [])], [("c", [7]), ("c", [7]), ("", [])], []]


def told(unit: str, keep: bool, seed: int = 3) -> tuple[list, dict]:
    """Rows in the order of CRAWL's pairs: (pair, text, draw) of each lot, and its entries."""
    pairs = mentioning([sorted(item, reverse=True) for item in CRAWL])
    names = [int(url.rsplit("/p", 1)[1]) for url in pairs["url"].to_pylist()]
    said, uids = mentions(pairs), pairs["uid"].to_pylist()
    lots = lots_of(said, uids, seed, "stage", unit, keep)
    texts = [*said.text.to_pylist(), None]
    rows = [(names[r], texts[t], d) for r, t, d in zip(lots.row, lots.text, lots.draw, strict=True)]
    assert lots.row.tolist() == sorted(lots.row) and lots.owner.tolist() == sorted(lots.owner)
    entries: dict = {}
    for owner, entry in zip(lots.owner.tolist(), lots.entry.tolist(), strict=True):
        entries.setdefault(rows[owner][:2], []).append(entry)
    uid = {names[i]: each for i, each in enumerate(uids)}
    return [
        (pair, text, draw, uid[pair]) for pair, text, draw in sorted(rows, key=lambda row: (row[0], row[1] or ""))
    ], entries


def test_every_text_that_mentions_something_draws_by_pair_and_text():
    rows, entries = told("text", keep=False)
    assert [row[:2] for row in rows] == [(0, "a"), (0, "b"), (3, "c")]
    assert all(draw == keyed_uniform(3, "stage", uid, text) for _, text, draw, uid in rows)
    assert entries == {(0, "a"): [2], (0, "b"): [2, 4], (3, "c"): [7]}


def test_kept_texts_without_a_match_and_pairs_without_a_text_have_lots_with_no_entry():
    rows, entries = told("text", keep=True)
    assert [row[:2] for row in rows] == [(0, "a"), (0, "b"), (1, None), (2, "x"), (3, ""), (3, "c"), (4, None)]
    assert all(draw == keyed_uniform(3, "stage", uid, text) for _, text, draw, uid in rows if text is not None)
    silent = {(1, None): [NONE], (2, "x"): [NONE], (3, ""): [NONE], (4, None): [NONE]}
    assert entries == {(0, "a"): [2], (0, "b"): [2, 4], (3, "c"): [7], **silent}


def test_a_pair_draws_once_for_the_distinct_entries_of_its_texts():
    rows, entries = told("pair", keep=False)
    assert [row[:2] for row in rows] == [(0, None), (3, None)]
    assert all(draw == keyed_uniform(3, "stage", uid) for _, _, draw, uid in rows)
    assert entries == {(0, None): [2, 4], (3, None): [7]}
    assert [row[0] for row in told("pair", keep=True)[0]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("keep", [False, True])
def test_one_text_of_each_pair_draws_and_it_is_not_always_the_same(keep):
    seen = set()
    for seed in range(20):
        rows, entries = told("one_text", keep, seed)
        assert [row[0] for row in rows] == ([0, 1, 2, 3, 4] if keep else [0, 3])
        assert all(draw == keyed_uniform(seed, "stage", uid, text) for _, text, draw, uid in rows if text is not None)
        assert set(entries) == {row[:2] for row in rows}
        seen |= set(entries)
    assert {(0, "a"), (0, "b"), (3, "c")} <= seen and ((3, "") in seen) == keep
