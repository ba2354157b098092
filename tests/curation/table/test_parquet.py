"""Ranges and slices of a file are those of the whole file, read through its row groups."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.table import parquet
from curation.table.arrow import concat, sorted_plainly
from pipeline.errors import DataError


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    url = str(tmp_path_factory.mktemp("p") / "rows.parquet")
    numbers = sorted([n // 3 for n in range(3 * parquet.GROUP_ROWS)])
    table = pa.table({"nested": [[n] for n in numbers], "uid": [f"{n:08x}" for n in numbers], "n": numbers})
    parquet.publish_rows(url, table)
    return url, table


@settings(max_examples=30, deadline=None)
@given(st.integers(-5, 9000), st.integers(-5, 9000))
def test_a_range_holds_the_rows_of_its_keys(rows, low, high):
    url, table = rows
    low, high = (f"{max(n, 0):08x}" for n in (low, high))
    found = parquet.read_range(url, "uid", low, high)
    assert found["uid"].to_pylist() == [uid for uid in table["uid"].to_pylist() if low <= uid < high]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 26_000), st.integers(0, 9000))
def test_a_slice_holds_the_rows_of_its_numbers(rows, start, length):
    url, table = rows
    assert parquet.read_slice(url, start, start + length, ["n"])["n"] == table.slice(start, length)["n"]


def test_a_damaged_file_is_named(rows, tmp_path):
    data = bytearray(open(rows[0], "rb").read())
    data[len(data) // 2] ^= 1
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(data)
    with pytest.raises(DataError, match="bad.parquet"):
        parquet.read_slice(str(bad), 0, 10**6)


def test_tables_are_joined_and_sorted_by_their_plain_columns_in_order():
    one, two = pa.table({"b": [2, 1], "l": [[1], [2]], "a": [1, 1]}), pa.table({"b": [0], "l": [[3]], "a": [2]})
    whole = sorted_plainly(concat([one, two, one.slice(0, 0)]), ("a",))
    assert whole.to_pydict() == {"b": [1, 2, 0], "l": [[2], [1], [3]], "a": [1, 1, 2]}
