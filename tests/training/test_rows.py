"""Rows with flat columns: what is cut and joined again is what it was, and each entry stays with its owner."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.rows import Rows, base_of, cut, group_of, harmless, joined, named, owners_of, spans

owned = st.lists(st.integers(0, 3), min_size=1, max_size=9)  # entries of each row


def rows_of(views: list[int], words: list[int]) -> Rows:
    """`image` says its row, entries of groups their owner's row and their number."""
    many = len(views)
    found = {"image": torch.arange(many), "valid": torch.arange(many) % 3 != 1}
    for group, counts in (("views", views), ("words/hard", words)):
        owner_M = torch.repeat_interleave(torch.arange(many), torch.tensor(counts))
        found[f"{group}/owner"] = owner_M
        found[f"{group}/text"] = owner_M * 100 + torch.arange(len(owner_M))
    return found


def same(one: Rows, other: Rows) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def pieces(rows: Rows, edges: list[int]) -> list[Rows]:
    owners, cuts = owners_of(rows), [0, *sorted(edges), len(rows["image"])]
    return [cut(rows, spans(owners, start, stop)) for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]


@given(owned, st.data())
def test_what_was_cut_is_whole_again_when_it_is_joined(views, data):
    rows = rows_of(views, data.draw(st.lists(st.integers(0, 2), min_size=len(views), max_size=len(views))))
    edges = data.draw(st.lists(st.integers(0, len(views)), max_size=4))
    assert same(joined(pieces(rows, edges)), rows)


@given(owned, st.data())
def test_a_piece_has_the_entries_of_its_rows_and_owners_count_from_its_first(views, data):
    rows = rows_of(views, views[::-1])
    start = data.draw(st.integers(0, len(views)))
    stop = data.draw(st.integers(start, len(views)))
    piece = cut(rows, spans(owners_of(rows), start, stop))
    assert piece["image"].tolist() == list(range(start, stop))
    for group in ("views", "words/hard"):
        owners = (piece[f"{group}/owner"] + start).tolist()
        assert owners == [each for each in rows[f"{group}/owner"].tolist() if start <= each < stop]
        assert [each // 100 for each in piece[f"{group}/text"].tolist()] == owners


def test_a_group_that_nobody_owns_stays_behind():
    rows = rows_of([1, 2], [0, 1]) | {"queue/text": torch.arange(7)}
    assert "queue/text" not in cut(rows, spans(owners_of(rows), 0, 1))


@given(owned)
def test_a_harmless_row_does_not_count_and_owns_its_entries(views):
    rows = rows_of(views, views)
    found = harmless(rows)
    assert found.keys() == rows.keys() and {len(column) for column in found.values()} == {1}
    assert found["valid"].tolist() == [False]
    assert found["views/owner"].tolist() == found["words/hard/owner"].tolist() == [0]
    empty: dict[str, Tensor] = {name: column[:0] for name, column in rows.items()}
    assert {len(column) for column in harmless(empty).values()} == {1} and not harmless(empty)["valid"].any()


def test_names_are_a_group_and_a_base():
    for name, group, base in (("image", "", "image"), ("views/text", "views", "text"), ("a/b/owner", "a/b", "owner")):
        assert (group_of(name), base_of(name), named(group, base)) == (group, base, name)
