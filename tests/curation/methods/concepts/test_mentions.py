"""A pair's distinct texts and their entries, whatever the order and the number of its captions."""

from curation.methods.concepts.mentions import entry_totals, mentions
from tests.helpers.concepts import mentioning, with_concepts


def totals(pairs) -> dict[int, int]:
    return dict(zip(*(each.tolist() for each in entry_totals(mentions(pairs))), strict=True))


def test_counts_are_over_texts_not_pairs():
    assert totals(with_concepts([[[0], [0, 2]], [[2]], [[]]])) == {0: 2, 2: 2}


def test_a_repeated_text_of_a_pair_counts_once_but_in_every_pair():
    pairs = mentioning([[("dog", [0]), ("cat", [1]), ("dog", [0])], [("dog", [0])], [("Dog", [0]), ("dog", [0])]])
    assert totals(pairs) == {0: 4, 1: 1}


def test_texts_are_in_order_of_pair_then_text_and_every_caption_knows_its_own():
    pairs = mentioning([[("é", [3]), ("b", [1, 2]), ("a", []), ("b", [1, 2])], [], [("b", [1, 2])]])
    said = mentions(pairs)
    captions = [(row, c["text"]) for row, item in enumerate(pairs.column("captions").to_pylist()) for c in item]
    texts = list(zip(said.row.tolist(), said.text.to_pylist(), strict=True))
    assert texts == sorted(set(captions)) and [texts[i] for i in said.text_of] == captions
    entries = [(texts[o][1], e) for o, e in zip(said.owner.tolist(), said.entry.tolist(), strict=True)]
    assert sorted(entries) == [("b", 1), ("b", 1), ("b", 2), ("b", 2), ("é", 3)]


def test_no_pairs_no_texts():
    said = mentions(with_concepts([[[0]]]).slice(0, 0))
    assert len(said.text) == len(said.text_of) == len(said.entry) == 0
