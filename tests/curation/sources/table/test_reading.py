"""Rows of a table: what a field of a text table says, which columns pass through, what of a row is counted."""

import json
from collections import Counter

import pytest

from curation.sources.table.layout import Layout
from curation.sources.table.lines import MAX_ROW
from curation.sources.table.reading import Reading, further, typed

LAYOUT = Layout(
    "url", (("caption", "caption"), ("title", "title")), "uid", frozenset({"url", "caption", "title", "uid"})
)
URL = "http://e.org/1.png"
INDEX = ["key", "row", "checksum", "image_offset", "num_captions"]


class Sink:
    def __init__(self):
        self.rows, self.told = [], []

    def occurrence(self, **row):
        self.rows.append(row)

    def bad(self, reason, place):
        self.told.append((reason, place))


def read(row, untyped=False, max_text_chars=100):
    sink = Sink()
    reading = Reading(sink, max_text_chars, untyped)
    reading.row(row, LAYOUT, further(list(row), LAYOUT), "row 7")
    assert sink.told == [(name.split(":")[1], "row 7") for name in reading.counts if name.startswith("bad_records")]
    return sink.rows, +reading.counts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("0", 0), ("-7", -7), ("007", "007"), ("+7", "+7"), ("-0", "-0"), ("7 ", "7 "), ("1_0", "1_0"),
        (f"{2**63 - 1}", 2**63 - 1), (f"{-(2**63)}", -(2**63)), (f"{2**63}", f"{2**63}"), (f"{-(2**63) - 1}",) * 2,
        ("9" * 19, "9" * 19), ("0.5", 0.5), ("-0.0", -0.0), ("1e3", 1000.0), ("1.5E-3", 0.0015), ("5.", "5."),
        ("1e999", "1e999"), ("-1.7976931348623157e+308", -1.7976931348623157e308), ("0." + "1" * 24, "0." + "1" * 24),
        ("0x1f", "0x1f"), ("nan", "nan"), ("inf", "inf"), ("true", True), ("True", True), ("false", False),
        ("False", False), ("TRUE", "TRUE"), ("tabby", "tabby"), ("\u0667", "\u0667"), ("1\u0667", "1\u0667"),
    ],
)  # fmt: skip
def test_a_field_of_text_is_what_it_is_written_as_only_where_nothing_of_it_is_lost(text, value):
    assert typed(text) == value and type(typed(text)) is type(value)


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        (["status", "n", "exif", "error_message"], ["status", "n", "exif", "error_message"]),
        (["key", "n"], ["key", "n"]),
        (["key", "status", "error_message", "exif", "n"], ["n"]),  # of a run of img2dataset
        (["checksum", "row", "ext"], ["checksum", "row", "ext"]),
        ([*INDEX, "n"], ["n"]),  # of an index of clipmill
        ([name for name in INDEX if name != "checksum"], [name for name in INDEX if name != "checksum"]),
        (["page_url", "language", "uid", "n"], ["n"]),
    ],
)
def test_a_users_columns_pass_through_and_only_what_a_run_says_of_itself_does_not(columns, left):
    assert further(["url", "caption", *columns], LAYOUT) == left


@pytest.mark.parametrize(
    ("row", "texts", "counts"),
    [
        ({"caption": "a cat"}, [("caption", "a cat")], {}),
        ({"caption": ["a", "a", "b"], "title": "a"}, [("caption", "a"), ("caption", "b"), ("title", "a")], {}),
        ({"caption": ["a", None]}, [("caption", "a")], {}),
        ({"caption": ["a", 7, {"no": 1}]}, [("caption", "a")], {"bad_texts:not_text": 2}),
        ({"caption": "x" * 101, "title": "a"}, [("title", "a")], {"bad_texts:text_too_long": 1}),
        ({"caption": " ", "title": "\n"}, [("caption", "")], {}),
        ({"caption": None}, [("caption", "")], {}),
    ],
)
def test_texts_of_a_row_each_once_and_what_is_none_counted(row, texts, counts):
    rows, found = read({"url": URL, **row})
    assert [(one["source"], one["text"]) for one in rows] == texts
    assert found == Counter({"records": 1, "mentions": len(texts), **counts})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no_url"), ({"url": ""}, "no_url"), ({"url": 7}, "bad_url"), ({"url": "ftp://e.org/1"}, "bad_scheme"),
        ({"url": URL, "uid": "0" * 31}, "bad_uid"), ({"url": URL, "uid": "0" * 33}, "bad_uid"),
        ({"url": URL, "uid": 7}, "bad_uid"), ({"url": URL, "n": "x" * MAX_ROW}, "row_too_long"),
    ],
)  # fmt: skip
def test_a_row_that_is_none_is_counted_and_told_with_its_place(row, reason):
    assert read({"caption": "a", **row}) == ([], Counter({"records": 1, f"bad_records:{reason}": 1}))


def test_what_else_a_row_says_goes_with_each_of_its_texts():
    row = {
        "url": URL,
        "caption": ["a", "b"],
        "page_url": "http://e.org/",
        "language": 7,
        "uid": "0" * 32,
        "z": "\u00e9",
    }
    rows, _ = read({**row, "a": "1", "none": None})
    told = {"url": URL, "uid": "0" * 32, "page_url": "http://e.org/", "language": "", "source": "caption"}
    assert rows == [{**told, "text": text, "extra": '{"a": "1", "z": "\u00e9"}'} for text in "ab"]
    assert json.loads(read({**row, "a": "1", "none": ""}, untyped=True)[0][0]["extra"]) == {"a": 1, "z": "\u00e9"}
    assert read({"url": URL, "none": None})[0][0]["extra"] == ""
