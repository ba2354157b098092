"""Lines and records of a text table: at a bound of bytes, across blocks, and with quotes that reach over it."""

import csv

import pytest

from curation.sources.table import lines
from curation.sources.table.lines import Feed, Line, Text, delimited, objects


@pytest.fixture(autouse=True)
def short(monkeypatch):
    before = csv.field_size_limit()
    monkeypatch.setattr(lines, "MAX_ROW", 20)
    yield
    csv.field_size_limit(before)  # which `delimited` sets for the whole process


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 20, 1000])
def test_a_line_of_as_many_bytes_as_may_be_is_had_and_a_longer_one_passed_by(size):
    data = b"a" * 19 + b"\n" + b"b" * 20 + b"\n" + b"c\n" + b"d" * 50 + b"\n\n" + b"e" * 20
    feed = Feed(blocks(data, size), 5)
    found = list(iter(feed.next, None))
    had = [Line(5, b"a" * 19 + b"\n"), Line(25, None), Line(46, b"c\n"), Line(48, None), Line(99, b"\n")]
    assert found == [*had, Line(100, b"e" * 20)]
    feed.back(found[1:3])
    assert [feed.next(), feed.next(), feed.next()] == [*found[1:3], None]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_last_line_is_as_long_as_any(end):
    assert Feed([b"x\n" + b"a" * 21 + end]).next() == Line(0, b"x\n")
    assert list(iter(Feed([b"x\n" + b"a" * 21 + end]).next, None))[1:] == [Line(2, None)]


def test_a_mark_of_the_encoding_is_none_of_the_text_and_only_at_the_front():
    assert list(iter(Feed([lines.BOM + b"a\n" + lines.BOM]).next, None)) == [Line(0, b"a\n"), Line(5, lines.BOM)]
    assert Feed([lines.BOM], 3).next() == Line(3, lines.BOM)


def rows(data: bytes) -> list[Text]:
    return list(delimited(Feed([data]), ","))


def test_a_row_that_is_too_long_is_one_bad_row_and_those_around_it_are_read():
    long = b"x," + b"y" * 19 + b"\n"
    assert rows(b"a,b\n" + long + b"c,d") == [
        Text(0, ["a", "b"]), Text(4, None, "row_too_long"), Text(4 + len(long), ["c", "d"])
    ]  # fmt: skip
    told = list(objects(Feed([b'{"a": 1}\n{"b": "' + b"y" * 20 + b'"}\n \n[1]\n{"c": NaN}'])))
    assert [(text.values, text.reason) for text in told] == [
        ({"a": 1}, ""), (None, "row_too_long"), (None, ""), (None, "bad_json"), ({"c": None}, "")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b'"12345678\n1234567",z', [["12345678\n1234567", "z"]]),  # 20 bytes
        (b'"12345678\n1234567",zz', [['"12345678'], ['1234567"', "zz"]]),
        (b'"a\n' + b"x" * 21 + b'\n",z', [['"a'], None, ['"', "z"]]),
    ],
)
def test_quotes_hold_no_more_than_a_row(data, values):
    found = rows(data)
    assert [text.values for text in found] == values
    assert found[0].stray == (len(values) > 1)
