"""Captions flat and in lists say the same: every function against plain Python lists, over every cut of the table."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.table import captions

ITEM = pa.list_(pa.struct([pa.field("text", pa.string()), pa.field("source", pa.string())]))
Lists = list[list[dict[str, Any]] | None]

caption_lists = st.lists(
    st.none()
    | st.lists(
        st.fixed_dictionaries(
            {"text": st.none() | st.text("aé\U0001f600", max_size=3), "source": st.sampled_from(["alt", "title"])}
        ),
        max_size=4,
    ),
    max_size=8,
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, Lists]:
    """Pairs as a stage may be given them: a slice of a longer table, in chunks of any length, none at all included."""
    rows = draw(caption_lists)
    start = draw(st.integers(0, len(rows)))
    stop = draw(st.integers(start, len(rows)))
    cut = draw(st.integers(0, len(rows)))
    chunks = [pa.array(part, ITEM) for part in (rows[:cut], rows[cut:]) if part or draw(st.booleans())]
    column = pa.chunked_array(chunks, ITEM)
    table = pa.table({"uid": pa.array([str(n) for n in range(len(rows))], pa.string()), "captions": column})
    return table.slice(start, stop - start), rows[start:stop]


def plain(lists: Lists) -> list[list[dict[str, Any]]]:
    return [row or [] for row in lists]


@settings(deadline=None)
@given(tables())
def test_exploded_captions_are_those_of_a_plain_loop(made):
    table, rows = made
    flat = captions.explode(table)
    expected = [{"row": number, **caption} for number, row in enumerate(plain(rows)) for caption in row]
    assert flat.to_pylist() == expected
    assert flat.schema == pa.schema([pa.field("row", pa.int64(), nullable=False), *ITEM.value_type])
    assert captions.counts(table.column("captions")).tolist() == [len(row) for row in plain(rows)]


@settings(deadline=None)
@given(tables())
def test_the_column_is_one_array_without_an_offset(made):
    table, rows = made
    column = captions.column(table)
    assert (column.to_pylist(), column.offset) == (rows, 0)


@settings(deadline=None)
@given(tables(), st.data())
def test_what_a_filter_leaves_goes_back_to_its_own_pair(made, data):
    table, rows = made
    flat = captions.explode(table)
    keep = data.draw(st.lists(st.booleans(), min_size=flat.num_rows, max_size=flat.num_rows))
    lists = captions.implode(flat.filter(pa.array(keep, pa.bool_())), table.num_rows)
    flags = iter(keep)
    assert lists.to_pylist() == [[caption for caption in row if next(flags)] for row in plain(rows)]
    assert lists.type.value_type == ITEM.value_type


@settings(deadline=None)
@given(tables())
def test_the_first_caption_speaks_for_its_pair(made):
    table, rows = made
    for name in ("text", "source"):
        assert captions.first(table, name).to_pylist() == [row[0][name] if row else None for row in plain(rows)]
    assert captions.first(table).to_pylist() == captions.first(table, "text").to_pylist()


@settings(deadline=None)
@given(tables(), st.data())
def test_fields_land_in_their_captions_and_replace_those_of_the_same_name(made, data):
    table, rows = made
    total = sum(len(row) for row in plain(rows))
    length = data.draw(st.lists(st.integers(0, 9), min_size=total, max_size=total))
    text = data.draw(st.lists(st.text("bß", max_size=2), min_size=total, max_size=total))
    fields = pa.table({"length": pa.array(length, pa.int32()), "text": pa.array(text, pa.string())})
    changed = captions.with_fields(table, fields)
    numbers = iter(range(total))
    expected = [
        [{**caption, "text": text[n], "length": length[n]} for caption, n in zip(row, numbers, strict=False)]
        for row in plain(rows)
    ]
    assert changed.column("captions").to_pylist() == expected
    assert changed.schema.field("captions").type.value_type.names == ["text", "source", "length"]  # order stays
    assert changed.column("uid").equals(table.column("uid"))


@settings(deadline=None)
@given(tables(), tables())
def test_replaced_captions_are_the_new_ones_and_nothing_else_changes(made, other):
    table, _ = made
    rows = (other[1] * (table.num_rows + 1))[: table.num_rows]
    rows = rows + [[]] * (table.num_rows - len(rows))
    changed = captions.replace(table, pa.array(rows, ITEM))
    assert changed.column("captions").to_pylist() == rows
    assert changed.column_names == table.column_names
    assert changed.column("uid").equals(table.column("uid"))


@pytest.mark.parametrize("rows", [[1, 0], [-1, 0], [0, 2]])
def test_a_flat_table_out_of_order_or_out_of_range_is_refused(rows):
    flat = pa.table({"row": pa.array(rows, pa.int64()), "text": ["a", "b"]})
    with pytest.raises(ValueError, match=r"must be sorted and lie in \[0, 2\)"):
        captions.implode(flat, 2)


def test_fields_for_another_number_of_captions_are_refused():
    table = pa.table({"captions": pa.array([[{"text": "a", "source": "alt"}], []], ITEM)})
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        captions.with_fields(table, pa.table({"length": pa.array([1, 2], pa.int32())}))


def test_what_lies_behind_a_null_list_is_no_caption():
    values = pa.array([{"text": text, "source": "alt"} for text in "abc"], ITEM.value_type)
    hidden = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), values, mask=pa.array([False, True, False]))
    table = pa.table({"captions": hidden})
    flat = captions.explode(table)
    assert (flat["row"].to_pylist(), flat["text"].to_pylist()) == ([0, 2], ["a", "c"])
    assert captions.first(table).to_pylist() == ["a", None, "c"]


texts = st.sampled_from("abcd")
made_for = st.lists(st.tuples(st.integers(0, 4), texts, texts), max_size=8).map(
    lambda rows: sorted(rows, key=lambda r: r[0])
)


@settings(deadline=None)
@given(st.lists(st.lists(texts, max_size=3), min_size=5, max_size=5), made_for, made_for)
def test_a_negative_is_added_once_and_never_one_that_is_a_caption(rows, first, second):
    item = [[{"text": text, "source": "alt"} for text in row] for row in rows]
    pairs = pa.table({"uid": list("01234"), "captions": pa.array(item, ITEM)})
    expected = [dict[str, str]() for _ in rows]
    added = 0
    for number, made in enumerate((first, second)):
        given = {name: [row[at] for row in made] for at, name in enumerate([captions.ROW, "text", "of"])}
        kinds = {captions.ROW: pa.int64(), "text": pa.string(), "of": pa.string()}
        table = pa.table({name: pa.array(given[name], kind) for name, kind in kinds.items()})
        table = table.append_column("source", pa.array([f"negative:{number}"] * len(made), pa.string()))
        column, told = captions.with_negatives(pairs, table)
        if captions.NEGATIVES in pairs.column_names:
            pairs = pairs.drop_columns([captions.NEGATIVES])
        pairs = pairs.append_column(captions.NEGATIVES, column)
        before = sum(map(len, expected))
        for row, text, of in made:
            if text not in rows[row]:
                expected[row].setdefault(text, f"negative:{number} {of}")
        assert told == sum(map(len, expected)) - before
        added += told
    found = [{n["text"]: f"{n['source']} {n['of']}" for n in each} for each in column.to_pylist()]
    assert found == expected and [list(each) for each in found] == [list(each) for each in expected]
    assert added == sum(map(len, found)) and pairs.column("captions").to_pylist() == item


def test_negatives_that_are_there_stay_as_they_are_and_those_made_say_all_that_is_known_of_them():
    there = {"prompt_version": "v1", "model": "m", "of": "a cat", "source": "negative:old", "text": "a dog"}
    pairs = pa.table({"uid": ["0", "1"], "captions": pa.array([[{"text": "a dog", "source": "alt"}], []], ITEM)})
    pairs = pairs.append_column(captions.NEGATIVES, pa.array([[there], None]))  # of another order, and a caption by now
    made = {"row": [0, 0, 1], "text": ["a dog", "a cow", "a pig"], "model": ["m", "n", None], "source": ["s"] * 3}
    made = pa.table({**made, "prompt_version": ["1", "2", "3"]})
    column, added = captions.with_negatives(pairs, made)
    new = {"source": "s", "of": ""}
    assert added == 2 and column.to_pylist() == [
        [there, {**new, "text": "a cow", "model": "n", "prompt_version": "2"}],
        [{**new, "text": "a pig", "model": "", "prompt_version": "3"}],
    ]
