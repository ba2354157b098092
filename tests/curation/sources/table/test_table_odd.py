"""Tables that are wrong somewhere: each row comes out by itself or is counted, and what is no table is named."""

import csv
import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.sources import SOURCES
from pipeline.errors import ClipmillError, DataError
from tests.curation.sources.table.test_table import read

URL = "http://e.org/{}.png"
SHAPES = {  # what stands in the column of captions -> what it is; None: a row with a field too many
    "{}": "{}", '"{}': '"{}', '{}"': '{}"', '5" {}': '5" {}', '"{}, or so': None, '"quoted {}"': "quoted {}",
    '"two\nlines, {}"': "two\nlines, {}", '"a" {}': '"a" {}', '"a ""b"" {}"': 'a "b" {}',
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    shapes=st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, max_size=25), ranges=st.sampled_from([None, 40, 200])
)
def test_quotes_that_are_never_closed_swallow_no_row(tmp_path_factory, shapes, ranges):
    folder = tmp_path_factory.mktemp("quotes")
    body = "".join(f"{URL.format(at)},{shape.format(f'text {at}')}\n" for at, shape in enumerate(shapes))
    (folder / "a.csv").write_text("url,caption\n" + body)
    rows, counts = read(folder, folder / "a.csv", ranges)
    expected = {URL.format(at): SHAPES[shape].format(f"text {at}") for at, shape in enumerate(shapes) if SHAPES[shape]}
    assert {row["url"]: row["text"] for row in rows} == expected
    assert counts["records"] == len(shapes)
    assert counts.get("bad_records:many_fields", 0) == len(shapes) - len(expected)


@pytest.mark.parametrize("columns", [("caption", "url"), ("n", "caption", "url", "m"), ("url", "caption")])
def test_a_caption_of_several_lines_is_one_wherever_its_url_stands(tmp_path, columns):
    texts = ["two\nlines", 'three\n"quoted"\nlines, of it', "with a, comma\r\n", "a cat\nsee http://e.org/other.png"]
    fields = [{"url": URL.format(at), "caption": text, "n": "1", "m": "2"} for at, text in enumerate(texts)]
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *([row[name] for name in columns] for row in fields)])
    rows, counts = read(tmp_path, tmp_path / "a.csv")
    assert {row["url"]: row["text"] for row in rows} == {row["url"]: row["caption"] for row in fields}
    assert counts == {"records": 4, "mentions": 4}


def test_rows_between_two_stray_quotes_are_rows(tmp_path):
    """By the letter of RFC 4180 they are one caption of four lines."""
    lines = ["url,caption", f'{URL.format(0)},"never closed', *(f"{URL.format(n)},text {n}" for n in (1, 2))]
    (tmp_path / "a.csv").write_text("\n".join([*lines, f'{URL.format(3)},a stray end"', f"{URL.format(4)},text 4"]))
    rows, counts = read(tmp_path, tmp_path / "a.csv")
    assert {row["url"]: row["text"] for row in rows} == {
        URL.format(0): '"never closed', URL.format(3): 'a stray end"',
        **{URL.format(n): f"text {n}" for n in (1, 2, 4)},
    }  # fmt: skip
    assert counts == {"records": 5, "mentions": 5, "stray_quotes": 1}


def workbook():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("xl/workbook.xml", "<x/>")
    return file.getvalue()


TEXT = f"url,caption\n{URL.format(1)},a cat\n{URL.format(2)},a dog\n"
NO_TABLES = {
    "UTF-16": (TEXT.encode("utf-16"), r"text in UTF-16; UTF-8\nhint: iconv -f UTF-16 "),
    "UTF-16 without a mark": (TEXT.encode("utf-16-be"), "text in UTF-16BE"),
    "UTF-32": (TEXT.encode("utf-32"), "text in UTF-32"),
    "packed under a plain name": (gzip.compress(TEXT.encode()), r"packed by gzip; text\nhint: name the file NAME\.gz"),
    "parquet": (b"PAR1\x15\x04", "a parquet file; text"),
    "a workbook": (workbook(), "a zip archive"),
    "an old Mac's lines": (TEXT.replace("\n", "\r").encode(), "carriage return alone"),
}


@pytest.mark.parametrize("what", NO_TABLES)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_no_text_is_named_before_any_work(tmp_path, what, name):
    data, words = NO_TABLES[what]
    (tmp_path / name).write_bytes(data)
    source = SOURCES["table"](paths=[str(tmp_path / name)])
    with pytest.raises(DataError, match=words):
        source.look(source.inputs()[0], "curate.sources.0")


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("a cat", "日本の猫"), TEXT.replace("a cat", "a\0cat")])
def test_text_is_no_other_encoding(tmp_path, text):
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert read(tmp_path, tmp_path / "a.csv")[1] == {"records": 2, "mentions": 2}


@pytest.mark.parametrize(("delimiter", "words"), [(";", "not by ';'"), ("\t", r"not by '\\t'"), ("|", "not by '|'")])
def test_another_delimiter_is_named_with_the_setting(tmp_path, delimiter, words):
    (tmp_path / "a.csv").write_text(TEXT.replace(",", delimiter))
    source = SOURCES["table"](paths=[str(tmp_path / "a.csv")])
    with pytest.raises(ClipmillError, match=words.replace("|", r"\|") + r"\nhint: set s\.delimiter"):
        source.look(source.inputs()[0], "s")
    assert read(tmp_path, tmp_path / "a.csv", delimiter=delimiter)[1]["mentions"] == 2


def test_blanks_around_the_names_of_columns_are_no_part_of_them(tmp_path):
    (tmp_path / "a.csv").write_text(TEXT.replace("url,caption", " url , caption"))
    assert read(tmp_path, tmp_path / "a.csv")[1] == {"records": 2, "mentions": 2}


@pytest.mark.parametrize("header", ["url,caption,,", ",url,caption,"])
def test_columns_without_a_name_are_called_by_their_number(tmp_path, header):
    rows = [",".join(["http://x.test/1.jpg", "a cat", "v", "w"])]
    if header[0] == ",":
        rows = [",".join(["v", "http://x.test/1.jpg", "a cat", "w"])]
    (tmp_path / "a.csv").write_text("\n".join([header, *rows]) + "\n")
    found, counts = read(tmp_path, tmp_path / "a.csv")[:2]
    assert counts == {"records": 1, "mentions": 1}
    names = {"2": "v", "3": "w"} if header[0] == "u" else {"0": "v", "3": "w"}
    assert names.items() <= json.loads(found[0]["extra"]).items()


NESTED = {
    "maps": pa.array([[("k", "v")], None, []], pa.map_(pa.string(), pa.string())),
    "lists of maps": pa.array([[[("k", 1)]], [], None], pa.list_(pa.map_(pa.string(), pa.int64()))),
    "maps of lists": pa.array([[("k", ["a", None])], None, []], pa.map_(pa.string(), pa.list_(pa.string()))),
    "structs of lists": pa.array([{"a": [{"b": "x"}]}, None, {"a": None}]),
    "dictionaries": pa.array(["a", None, "a"]).dictionary_encode(),
    "views": pa.array(["a", None, "b"], pa.string_view()),
    "lists of fixed size": pa.array([["a", "b"], None, ["c", "d"]], pa.list_(pa.string(), 2)),
}


@pytest.mark.parametrize("kind", NESTED)
def test_columns_of_any_type_pass_through(tmp_path, kind):
    table = pa.table({"url": [URL.format(n) for n in range(3)], "caption": ["x", "y", "z"], "more": NESTED[kind]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows, counts = read(tmp_path, tmp_path / "a.parquet")
    assert counts == {"records": 3, "mentions": 3}
    assert len(rows) == 3 and any('"more": ' in row["extra"] for row in rows)


def settings_of(folder, paths, **more):
    source = {"kind": "table", "paths": [str(path) for path in paths], **more}
    plain = {"sources": [source], "stages": [], "output": str(folder / "out"), "fetch": False}
    return CurateSettings.model_validate({**plain, "ray": {"address": "inline"}})


def test_bad_rows_are_told_with_their_file_and_place(tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(TEXT)
    (folder / "b.csv").write_text(TEXT + f"{URL.format(3)}\n,no url\n{URL.format(4)}\n")
    table = pa.table({"url": [URL.format(5), "ftp://e.org/1"], "caption": ["a", "b"]})
    pq.write_table(table, folder / "c.parquet")
    with pytest.raises(DataError, match="image_missing"):  # nothing is downloaded: all that is asked for is said before
        curate(settings_of(tmp_path, [folder]), name="t", seed=0, quiet=True)
    at = len(TEXT.encode())
    told = [line for line in caplog.messages if "bad records" in line]
    assert told == [
        f"1 bad records in 1 files: bad_scheme; the first: {folder}/c.parquet, row 1 of row group 0",
        f"2 bad records in 1 files: few_fields; the first: {folder}/b.csv, row at byte {at}",
        f"1 bad records in 1 files: no_url; the first: {folder}/b.csv, row at byte {at + 19}",
    ]


def test_the_first_place_is_that_of_the_file_however_it_is_cut(tmp_path, caplog):
    lines = ["url,caption", *(f"{URL.format(at)},text {at}" for at in range(400))]
    for bad in (150, 151, 390):
        lines[bad] = "short"
    (tmp_path / "a.csv").write_text("\n".join(lines))
    at = len("\n".join(lines[:150])) + 1
    for step in (None, 700, 3000):
        made = settings_of(tmp_path / f"{step}", [tmp_path / "a.csv"], range_bytes=step)
        with pytest.raises(DataError, match="image_missing"):
            curate(made, name="t", seed=0, quiet=True)
        said = f"3 bad records in 1 files: few_fields; the first: {tmp_path}/a.csv, row at byte {at}"
        assert [line for line in caplog.messages if "bad records" in line] == [said]
        caplog.clear()


def test_a_table_without_a_url_that_can_be_used_is_an_error_that_counts_why(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"url": [{"src": URL.format(1)}, None], "caption": ["x", "y"]}), path)
    with pytest.raises(DataError, match=r"none of 2 rows has an url to use \((bad_url|no_url) 1, (bad_url|no_url) 1\)"):
        curate(settings_of(tmp_path, [path]), name="t", seed=0, quiet=True)
