"""Tables joined, widened and sorted: rows as plain Python has them."""

import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.table import arrow
from pipeline.errors import DataError

SCHEMA = pa.schema([("uid", pa.string()), ("nested", pa.list_(pa.int32())), ("group", pa.uint64()), ("n", pa.int32())])
rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "uid": st.none() | st.sampled_from(["a", "b", "é", "\U0001f600", ""]),
            "nested": st.lists(st.integers(0, 3), max_size=2),
            "group": st.none() | st.sampled_from([0, 1, 2**63, 2**64 - 1]),
            "n": st.none() | st.integers(-2, 2),
        }
    ),
    max_size=12,
)


def key(row: dict, names: tuple[str, ...]) -> list:
    """Ascending, text by its UTF-8 bytes, null last."""
    values = [row[name] for name in names]
    return [(v is None, v.encode() if isinstance(v, str) else 0 if v is None else v) for v in values]


def whole_row(row: dict) -> str:
    return repr(sorted(row.items()))


@settings(deadline=None)
@given(rows_of, st.integers(0, 12))
def test_rows_are_sorted_by_the_columns_named_first_then_by_the_other_plain_ones(rows, cut):
    parts = [pa.Table.from_pylist(part, SCHEMA) for part in (rows[:cut], rows[cut:])]
    table = pa.concat_tables(parts)
    for first, names in [((), ("uid", "group", "n")), (("group", "uid", "gone"), ("group", "uid", "n"))]:
        made = arrow.sorted_plainly(table, first)
        assert made.schema == SCHEMA
        assert [key(row, names) for row in made.to_pylist()] == sorted(key(row, names) for row in rows)
        assert sorted(map(whole_row, made.to_pylist())) == sorted(map(whole_row, rows))  # each row whole, none lost


@settings(deadline=None)
@given(rows_of, st.randoms(use_true_random=False))
def test_the_order_of_arrival_leaves_no_trace_in_plain_columns(rows, chance):
    other = list(rows)
    chance.shuffle(other)
    made = [arrow.sorted_plainly(pa.Table.from_pylist(each, SCHEMA).drop_columns(["nested"])) for each in (rows, other)]
    assert made[0].equals(made[1])


def test_a_table_of_nested_columns_alone_stays_as_it_is():
    table = pa.table({"nested": [[2], [1]]})
    assert arrow.sorted_plainly(table).to_pylist() == table.to_pylist()


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=4), st.integers(0, 4), st.integers(0, 4))
def test_one_array_of_any_chunks(chunks, start, length):
    column = pa.chunked_array([pa.array(chunk, pa.int32()) for chunk in chunks], pa.int32())
    flat = [value for chunk in chunks for value in chunk]
    made = arrow.whole(column.slice(min(start, len(flat)), length))
    assert isinstance(made, pa.Array) and made.type == pa.int32()
    assert made.to_pylist() == flat[start : start + length]
    assert arrow.whole(made) is made


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=3), st.booleans()), min_size=1, max_size=5))
def test_joined_tables_hold_all_rows_in_order_with_null_where_one_lacks_a_column(tables):
    made = [
        pa.table({"a": pa.array(rows, pa.int64())} | ({"b": rows} if rows and wide else {})) for rows, wide in tables
    ]
    joined = arrow.concat(made)
    wide_anywhere = any(rows and wide for rows, wide in tables)
    expected = [{"a": a} | ({"b": a if wide else None} if wide_anywhere else {}) for rows, wide in tables for a in rows]
    assert joined.to_pylist() == expected
    assert all(column.num_chunks <= 1 for column in joined.columns)


def test_an_empty_table_neither_adds_columns_nor_widens_types():
    empty = pa.table({"a": pa.array([], pa.string()), "old": pa.array([], pa.int8())})
    full = pa.table({"a": pa.array([1], pa.int32())})
    assert arrow.concat([empty, full]).schema == full.schema
    assert arrow.concat([empty, empty]).schema == empty.schema
    assert arrow.concat([full, pa.table({"a": pa.array([2**40])})]).column("a").to_pylist() == [1, 2**40]


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=5), st.data())
def test_columns_replace_those_of_their_name_in_place_and_others_come_behind(values, data):
    numbers = data.draw(st.lists(st.floats(allow_nan=False), min_size=len(values), max_size=len(values)))
    pairs = pa.table({"x": pa.array(values, pa.int64()), "y": pa.array(values, pa.int64())})
    made = arrow.with_columns(
        pairs, pa.table({"z": pa.array(numbers, pa.float64()), "x": pa.array(numbers, pa.float64())})
    )
    assert made.schema == pa.schema([("x", pa.float64()), ("y", pa.int64()), ("z", pa.float64())])
    rows = [{"x": f, "y": v, "z": f} for v, f in zip(values, numbers, strict=True)]
    assert made.to_pylist() == rows


def test_columns_for_another_number_of_pairs_are_refused():
    with pytest.raises(ValueError, match="2 rows of columns for 1 pairs"):
        arrow.with_columns(pa.table({"x": [1]}), pa.table({"y": [1, 2]}))


def test_more_than_two_gib_is_an_error_that_says_what_to_type():
    chunk = pa.array(["x" * (64 << 20)])
    with pytest.raises(DataError, match=r"at most 2 GiB a bucket\nhint: give `curate\.buckets`"):
        arrow.whole(pa.chunked_array([chunk] * 33))  # the chunks share one buffer


WITHOUT = """
import sys
import numpy as np
import pyarrow as pa
from curation.table.arrow import with_pandas, without_pandas

without_pandas()
assert pa.array(np.arange(3.0)).to_pylist() == [0, 1, 2] and "pandas" not in sys.modules
table = pa.table({"a": [1, None]})
"""
NULLS = "import pandas; print(pa.array(pandas.Series([1.0, float('nan')])).null_count)"
WORDS = {
    "print('pandas' in sys.modules)": "False",
    "print(table.to_pandas()['a'].isna().tolist())": "[False, True]",
    f"with_pandas(); {NULLS}": "1",  # as it is where nobody was told anything
    f"from curation.methods.called import loaded; loaded('os.path:join', 'a stage'); {NULLS}": "1",
    f"import pandas; without_pandas(); {NULLS}": "0",  # told once, and nothing is changed by saying so again
}


@pytest.mark.parametrize("then", WORDS)
def test_pyarrow_does_without_pandas_until_somebody_wants_it(then):
    done = subprocess.run([sys.executable, "-c", WITHOUT + then], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == (WORDS[then], "")


def test_who_has_pandas_already_keeps_what_it_does():
    words = "import pandas; from curation.table.arrow import without_pandas; import pyarrow as pa; without_pandas(); "
    done = subprocess.run([sys.executable, "-c", words + NULLS], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("1", "")
