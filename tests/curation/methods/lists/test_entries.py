"""Every sort of list file gives its entries with their lines; what is no list is one error naming it."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.methods.lists import entries as module
from curation.methods.lists.entries import entries, entry_batches
from pipeline.errors import RecipeError

TEXT = "\ufeffa.org\r\n# all of it\n\n  b.org  # why\nhttp://c.org/#top\n"
LINES = [(1 << 16) - 1, 1 << 16, 200_000]  # bytes
OF_TEXT = [(1, "a.org"), (4, "b.org"), (5, "http://c.org/#top")]


def read(path, column=None):
    return list(entries(str(path), column, "x.lists.0"))


@pytest.mark.parametrize("block", [1, 7, 1 << 22])
@pytest.mark.parametrize("name", ["list.txt", "list", "LIST.TXT.gz"])
def test_text_line_by_line_whatever_is_read_at_once(tmp_path, monkeypatch, name, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    data = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert read(tmp_path / name) == OF_TEXT


def test_a_line_that_cannot_be_read_is_told_and_the_next_is_read(tmp_path):
    (tmp_path / "list").write_bytes(b"a\n\xff\xfe\n" + b"x" * 200_000 + b"\nb")
    assert read(tmp_path / "list") == [(1, "a"), (2, None), (3, None), (4, "b")]


@pytest.mark.parametrize(("name", "quote"), [("list", ""), ("list.jsonl", '"')])
def test_a_line_of_64_kib_is_too_long_and_is_one_line(tmp_path, monkeypatch, name, quote):
    monkeypatch.setattr(module, "_BLOCK", 30_000)
    texts = ["\ufeff" + quote + "a" + quote, *(quote + "x" * (size - 2 * len(quote)) + quote for size in LINES), quote]
    (tmp_path / name).write_text("\n".join(texts) + "b" + quote)
    found = read(tmp_path / name)
    assert [at for at, _ in found] == [1, 2, 3, 4, 5]
    assert [entry and entry.strip("x") for _, entry in found] == ["a", "", None, None, "b"]


def test_a_mark_of_the_encoding_is_left_out_only_where_the_file_begins(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 4)
    (tmp_path / "list").write_text("a.org\n\ufeffb.org\n")
    assert read(tmp_path / "list") == [(1, "a.org"), (2, "\ufeffb.org")]


def test_batches_tell_the_line_of_their_first_entry_and_have_all_between(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 4)
    monkeypatch.setattr(module, "_BATCH", 2)
    (tmp_path / "list").write_text(TEXT)
    (tmp_path / "a.jsonl").write_text('"1"\n\n"3"\n"4"\n"5"\n\n\n"8"')
    for name, filled in (("list", dict(OF_TEXT)), ("a.jsonl", {at: str(at) for at in (1, 3, 4, 5, 8)})):
        batches = list(entry_batches(str(tmp_path / name), None, "x"))
        assert len(batches) > 2 and (name == "list" or max(len(some) for _, some in batches) == 2)
        told = {begun + at: entry for begun, some in batches for at, entry in enumerate(some)}
        assert {at: entry.strip() for at, entry in told.items() if entry.strip()} == filled


def test_json_and_lines_of_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(["x", {"host": "y", "n": 1}, {"n": 2}]))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'"x"\n\n{"host": "y"}\n{oops\n7\n'))
    assert read(tmp_path / "a.json", "host") == [(1, "x"), (2, "y"), (3, None)]
    assert read(tmp_path / "a.jsonl.gz", "host") == [(1, "x"), (3, "y"), (4, None), (5, 7)]


def test_a_column_of_parquet(tmp_path):
    table = pa.table({"h": pa.array([3, None, 2**64 - 1], pa.uint64()), "t": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert read(tmp_path / "a.parquet", "h") == [(1, 3), (3, 2**64 - 1)]
    assert read(tmp_path / "a.parquet", "t") == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize(
    ("name", "data", "column", "said"),
    [
        ("a.parquet", b"no", "x", "not readable as parquet"),
        ("a.parquet", b"", None, "no column is named"),
        ("a.json", b"{}", None, "holds a dict"),
        ("a.json", b"[", None, "Expecting value"),
        ("a.txt.gz", b"a.org\n", None, "gzip"),
        ("a.txt.gz", gzip.compress(b"a.org\n" * 50, mtime=0)[:-9], None, "ended before"),
    ],
)
def test_what_is_no_list_is_one_error(tmp_path, name, data, column, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RecipeError, match=rf"x\.lists\.0: .*{name}: .*{said}"):
        read(tmp_path / name, column)


def test_a_column_that_is_not_there_is_an_error_naming_those_that_are(tmp_path):
    pq.write_table(pa.table({"host": ["a"], "why": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(RecipeError, match="no column `url`, but host, why"):
        read(tmp_path / "a.parquet", "url")
