"""The table beside a tar: only what its samples ask for, and never more than fits."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.sources.shards import sidecar
from curation.sources.shards.sidecar import sidecar_rows
from pipeline.errors import DataError


def test_only_the_rows_asked_for_are_given_with_all_their_fields(tmp_path):
    rows = {
        "key": [f"{n:09d}" for n in range(9000)], "url": [f"u{n % 7}" for n in range(9000)],
        "caption": [["a", f"b{n % 3}"] for n in range(9000)], "score": [n / 2 for n in range(9000)],
        "raw": [b"x"] * 9000, "none": [None] * 9000, "one": [{"a": n} for n in range(9000)],
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "0.parquet", row_group_size=1000)
    found = sidecar_rows(str(tmp_path / "0.parquet"), {"000000003", "000008999", "absent"})
    for n in (3, 8999):
        fields = {"key": f"{n:09d}", "url": f"u{n % 7}", "caption": ["a", f"b{n % 3}"], "score": n / 2, "one": {"a": n}}
        assert found.pop(f"{n:09d}") == (fields, "")
    assert found == {}
    assert sidecar_rows(str(tmp_path / "0.parquet"), set()) == {} == sidecar_rows(str(tmp_path / "no"), {"a"})


def test_a_table_of_many_equal_rows_is_refused_by_name_and_not_unpacked(tmp_path):
    """30 million rows in less than a megabyte: 8 GB as Python objects."""
    one = pa.array(["000000001"]).dictionary_encode()
    keys = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), one.dictionary)
    path = tmp_path / "0.parquet"
    with pq.ParquetWriter(path, pa.schema([("key", keys.type)])) as writer:
        for _ in range(30):
            writer.write_table(pa.table({"key": keys}))
    assert path.stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    with pytest.raises(DataError, match=r"0\.parquet: 30000000 rows; at most 100000"):
        sidecar_rows(str(path), {"000000001"})
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_one_long_text_in_many_rows_is_refused_or_counted(tmp_path, monkeypatch):
    path = str(tmp_path / "0.parquet")
    keys = [f"{n}" for n in range(200)]
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), ["x" * (1 << 20)])
    pq.write_table(pa.table({"key": keys, "caption": text}), path)
    assert sidecar_rows(path, {"7"})["7"][0]["caption"] == "x" * (1 << 20)
    monkeypatch.setattr(sidecar, "MAX_BYTES", 8 << 20)
    with pytest.raises(DataError, match=r"0\.parquet: more than 8388608 bytes of fields"):
        sidecar_rows(path, set(keys))
    monkeypatch.setattr(sidecar, "MAX_META", 1 << 19)
    assert sidecar_rows(path, {"7"}) == {"7": ({}, "bad_meta")}


def test_long_lists_of_one_value_are_refused_by_the_footer(tmp_path):
    path = str(tmp_path / "0.parquet")
    endless = pa.ListArray.from_arrays(pa.array([0, 80_000_000], pa.int32()), pa.nulls(80_000_000, pa.int8()))
    pq.write_table(pa.table({"key": ["a"], "list": endless}), path)
    with pytest.raises(DataError, match=r"0\.parquet: \d+ bytes, unpacked"):
        sidecar_rows(path, {"a"})


@pytest.mark.parametrize("table", [{"key": [1]}, {"other": ["a"]}, {"key": [["a"]]}, {"key": [b"a"]}])
def test_a_table_without_keys_of_text_gives_nothing(tmp_path, table):
    pq.write_table(pa.table(table), tmp_path / "0.parquet")
    assert sidecar_rows(str(tmp_path / "0.parquet"), {"a", "1"}) == {}
