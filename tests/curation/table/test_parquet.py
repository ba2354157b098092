"""A slice of a file is what a full read and a plain loop would give, and no more of the file is read than it takes."""

import io
import itertools
import random

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.table import parquet
from pipeline import storage
from pipeline.errors import DataError, StorageError

NESTED = pa.list_(pa.struct([("a", pa.int32()), ("b", pa.string())]))
KINDS = {
    "numbers": (pa.int32(), st.integers(-5, 5)),
    "uids": (pa.string(), st.text("0123456789abcdef", min_size=1, max_size=3)),
    "words": (pa.string(), st.text("a\x7fé\U0001f600\uffff", max_size=2)),
}
serial = itertools.count()


def written(folder, monkeypatch, kind: str, values: list, group_rows: int) -> tuple[str, list[dict]]:
    """A file sorted by `k`, in small row groups, with a nested column before the key; and its rows."""
    monkeypatch.setattr(parquet, "GROUP_ROWS", group_rows)
    column = pa.array(values, KINDS[kind][0])
    nested = pa.array([[{"a": n, "b": "x"}] * (n % 3) for n in range(len(values))], NESTED)
    table = pa.table({"nested": nested, "k": column, "row": pa.array(range(len(values)), pa.int64())})
    url = str(folder / f"{next(serial)}.parquet")
    parquet.publish_rows(url, table, "k")
    return url, pq.read_table(url).to_pylist()


def in_order(values: list) -> list:
    """As curation sorts them: text by its UTF-8 bytes, null last."""
    return sorted(values, key=lambda v: (v is None, v.encode() if isinstance(v, str) else v or 0))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_range_holds_the_rows_whose_key_lies_in_it(tmp_path, monkeypatch, kind, data):
    value = KINDS[kind][1]
    values = in_order(data.draw(st.lists(value | st.none(), max_size=12)))
    url, rows = written(tmp_path, monkeypatch, kind, values, data.draw(st.integers(1, 5)))
    low, high = data.draw(value), data.draw(value)
    as_bytes = (lambda v: v.encode()) if kind != "numbers" else (lambda v: v)
    inside = [r for r in rows if r["k"] is not None and as_bytes(low) <= as_bytes(r["k"]) < as_bytes(high)]
    made = parquet.read_range(url, "k", low, high)
    assert made.to_pylist() == inside
    assert made.schema.equals(pq.read_schema(url))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_read_forward_gives_each_row_once_and_reads_each_row_group_once(tmp_path, monkeypatch, data):
    values = in_order(data.draw(st.lists(KINDS["uids"][1], max_size=12)))
    url, rows = written(tmp_path, monkeypatch, "uids", values, data.draw(st.integers(1, 5)))
    file = parquet.Forward(url, "k", [])
    reads, plain = [], storage.RangeReader.read
    with monkeypatch.context() as patch:
        patch.setattr(storage.RangeReader, "read", lambda self, a, b: reads.append(a) or plain(self, a, b))
        given_so_far = []
        for high in [*sorted(data.draw(st.lists(KINDS["uids"][1], max_size=4))), "g"]:
            given_so_far += file.before(high).to_pylist()
            assert given_so_far == [row for row in rows if row["k"] < high]
    assert sum(file.rows) == len(values) and len(reads) == len(set(reads)) == len(file.rows)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_of_a_range_only_the_columns_asked_for_are_read(tmp_path, monkeypatch, data):
    values = in_order(data.draw(st.lists(KINDS["uids"][1] | st.none(), max_size=12)))
    url, rows = written(tmp_path, monkeypatch, "uids", values, data.draw(st.integers(1, 5)))
    ranged = parquet.read_range(url, "k", "1", "c", columns=["k"])
    assert ranged.to_pylist() == [{"k": r["k"]} for r in rows if r["k"] is not None and "1" <= r["k"] < "c"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 12), group_rows=st.integers(1, 5), start=st.integers(0, 14), stop=st.integers(0, 14))
def test_a_slice_holds_the_rows_from_start_to_stop(tmp_path, monkeypatch, count, group_rows, start, stop):
    url, rows = written(tmp_path, monkeypatch, "numbers", list(range(count)), group_rows)
    made = parquet.read_slice(url, start, max(start, stop))
    assert made.to_pylist() == rows[start : max(start, stop)]
    assert made.schema.equals(pq.read_schema(url))


def test_only_the_row_groups_that_hold_the_rows_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1000)
    chance = random.Random(0)
    noise = [chance.randbytes(64) for _ in range(64_000)]  # does not compress: the footer is small beside it
    url = str(tmp_path / "x.parquet")
    parquet.publish_rows(url, pa.table({"k": pa.array(range(64_000), pa.int64()), "noise": noise}))
    spans = []
    plain = storage.RangeReader.read
    monkeypatch.setattr(storage.RangeReader, "read", lambda self, a, b: (spans.append((a, b)), plain(self, a, b))[1])
    whole = storage.size(url)

    def read_share(function, *args) -> float:
        spans.clear()
        function(url, *args)
        return sum(b - a for a, b in spans) / whole

    assert read_share(parquet.read_range, "k", 30_000, 31_000) < 0.1
    assert read_share(parquet.read_slice, 30_000, 31_000) < 0.1
    assert read_share(parquet.read_range, "k", 0, 64_000) > 0.9


def test_equal_rows_give_equal_bytes_however_they_are_chunked(tmp_path):
    whole = pa.table({"k": range(100)})
    cut = pa.concat_tables([whole.slice(0, 33), whole.slice(33, 0), whole.slice(33)])
    for name, table in (("a", whole), ("b", cut)):
        parquet.publish_rows(str(tmp_path / name), table)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_in_a_store_is_read_as_one_on_disk(tmp_path):
    table = pa.table({"k": range(100)})
    parquet.publish_rows("memory://table-test/x.parquet", table)
    try:
        assert parquet.read_range("memory://table-test/x.parquet", "k", 10, 12)["k"].to_pylist() == [10, 11]
        assert parquet.read_slice("memory://table-test/x.parquet", 98, 100)["k"].to_pylist() == [98, 99]
    finally:
        fsspec.filesystem("memory").rm("/table-test", recursive=True)


@pytest.mark.parametrize(
    "read",
    [
        lambda url: parquet.read_range(url, "k", 0, 1000),
        lambda url: parquet.read_slice(url, 0, 1000),
        lambda url: parquet.Forward(url, "k", []).before(1000),
    ],
)
def test_damage_is_told_with_the_file_and_what_to_do(tmp_path, read):
    path = tmp_path / "x.parquet"
    parquet.publish_rows(str(path), pa.table({"k": range(1000)}))
    whole = path.read_bytes()
    page = bytearray(whole)
    page[len(whole) // 3] ^= 0xFF  # inside the data: only the checksum of the page sees it
    for data in (b"", b"PAR1", whole[:-1], whole[: len(whole) // 2], bytes(page), b"no parquet" * 9):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"x\.parquet: not readable as parquet: (.|\n)*hint: remove the folder"):
            read(str(path))
    path.unlink()
    with pytest.raises(StorageError, match=r"x\.parquet: no such file"):
        read(str(path))


def test_a_view_of_a_file_seeks_and_reads_as_the_file_does(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(range(200)))
    ours, plain = parquet._Ranges(str(path)), io.BytesIO(path.read_bytes())
    assert ours.seekable() and ours.readable()
    for step in [(0, 0), (50, 0), (-3, 1), (10, 1), (-20, 2), (500, 0), (0, 2), (0, 0)]:
        assert ours.seek(*step) == plain.seek(*step)
        for count in (0, 7, 300, -1):
            assert (ours.read(count), ours.tell()) == (plain.read(count), plain.tell())
            assert ours.seek(*step) == plain.seek(*step) or step[1] == 1
