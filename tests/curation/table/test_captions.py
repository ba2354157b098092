"""A flat table of captions and lists of captions are the same thing, whatever lists: held against plain Python."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.table import captions, schemas
from tests.helpers.pairs import pair, pairs_of

TEXTS = st.lists(st.lists(st.text(max_size=3), max_size=4), max_size=6)


def table(lists: list[list[str]]) -> pa.Table:
    return pairs_of(*(pair(str(n), *texts) for n, texts in enumerate(lists)))


@given(TEXTS)
def test_taken_apart_and_put_together_again_nothing_has_changed(lists):
    pairs = table(lists)
    flat = captions.explode(pairs)
    rows = [(n, one["text"]) for n, each in enumerate(pairs["captions"].to_pylist()) for one in each]
    assert list(zip(flat["row"].to_pylist(), flat["text"].to_pylist(), strict=True)) == rows
    assert captions.implode(flat, pairs.num_rows).to_pylist() == pairs["captions"].to_pylist()
    assert captions.counts(pairs["captions"]).tolist() == [len(each) for each in pairs["captions"].to_pylist()]


@given(TEXTS, st.integers(0, 5), st.integers(0, 5))
def test_a_slice_of_a_table_is_as_good_as_a_table(lists, start, length):
    pairs = table(lists).slice(start, length)
    assert captions.implode(captions.explode(pairs), pairs.num_rows).to_pylist() == pairs["captions"].to_pylist()
    firsts = [each[0]["text"] if each else None for each in pairs["captions"].to_pylist()]
    assert captions.first(pairs).to_pylist() == firsts


@given(TEXTS)
def test_fields_are_added_in_their_place(lists):
    pairs = table(lists)
    texts = captions.explode(pairs)["text"].to_pylist()
    wider = captions.with_fields(pairs, pa.table({"length": pa.array([len(t) for t in texts], pa.int64())}))
    for before, after in zip(pairs["captions"].to_pylist(), wider["captions"].to_pylist(), strict=True):
        assert after == [{**one, "length": len(one["text"])} for one in before]
    assert [f.name for f in wider.schema] == schemas.PAIRS.names
