"""Rows of a text table, one after the other: lines cut out of a stream, and from them delimited records or objects.

Reading on depends on the offset of a row alone, so a file is cut at any row. Where rows begin is told from the front:
a line end inside quotes ends no row.
"""

import csv
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pipeline.contract.pairs import MAX_META

MAX_ROW = MAX_META
"""Bytes of a row; a longer one is passed by in steps and counted."""
_RETURN = "\ud800"  # in no decoded text
BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """start: its offset; data: its bytes with the line end, None when it is longer than MAX_ROW."""

    start: int
    data: bytes | None


class Text(NamedTuple):
    """One row: its offset; its values, None for a blank line, or the reason why there are none. stray: it has quotes
    that are none; odd: values that nobody asked for, and that cannot be had."""

    start: int
    values: Any
    reason: str = ""
    stray: bool = False
    odd: int = 0


IsRow = Callable[[list[str], int], bool]
"""Whether a line inside quotes is a row by its own fields, of which so many end before its first quote."""


class Feed:
    """Lines of a stream of blocks that begins at `start`, and back again."""

    def __init__(self, blocks: Iterable[bytes], start: int = 0) -> None:
        self._lines, self._back = _lines(blocks, start), deque[Line]()

    def next(self) -> Line | None:
        return self._back.popleft() if self._back else next(self._lines, None)

    def back(self, lines: list[Line]) -> None:
        self._back.extendleft(reversed(lines))


def _lines(blocks: Iterable[bytes], start: int) -> Iterator[Line]:
    held: list[bytes] = []  # of a line that has not ended
    size, long = 0, False
    for block in blocks:
        at = 0
        while at < len(block):
            end = block.find(b"\n", at) + 1
            piece = block[at : end or len(block)]
            size += len(piece)
            long = long or size > MAX_ROW
            if long:
                held = []
            else:
                held.append(piece)
            at += len(piece)
            if end:
                yield Line(start, None if long else _marked(start, b"".join(held)))
                start, held, size, long = start + size, [], 0, False
    if size:
        yield Line(start, None if long else _marked(start, b"".join(held)))


def _marked(start: int, data: bytes) -> bytes:
    return data if start else data.removeprefix(BOM)


def delimited(feed: Feed, delimiter: str, is_row: IsRow = lambda *_: False) -> Iterator[Text]:
    """Records with fields in quotes where they need them. A quote that is never closed, or has text behind it, is a
    character like any other: the line is a record as it stands. So is a quote behind which a further line `is_row` by
    its own fields: one that was never closed, until some later stray quote, would swallow the rows between."""
    csv.field_size_limit(MAX_ROW)
    while (line := feed.next()) is not None:
        if line.data is None:
            yield Text(line.start, None, "row_too_long")
            continue
        plain = _decoded(line.data.removesuffix(b"\n").removesuffix(b"\r"))
        if not plain:
            yield Text(line.start, None)
            continue
        fields = _quoted(feed, line, delimiter, is_row) if b'"' in line.data else plain.split(delimiter)
        stray = fields is None
        fields = plain.split(delimiter) if fields is None else fields
        sound = all(map(_is_sound, fields))
        yield Text(line.start, fields if sound else None, "" if sound else "bad_utf8", stray)


class _Long(Exception):
    pass


class _Swallowing(Exception):
    """A quote was not closed before the next row."""


def _quoted(feed: Feed, first: Line, delimiter: str, is_row: IsRow) -> list[str] | None:
    """The fields of the record that begins with this line; None when its quotes are none."""
    taken: list[Line] = []

    def lines() -> Iterator[str]:
        line, size = first, 0
        while line is not None:
            size += MAX_ROW + 1 if line.data is None else len(line.data)
            if line.data is None or size > MAX_ROW:
                raise _Long
            yield _without_returns(_decoded(line.data))
            more = feed.next()
            if more is None:
                return
            taken.append(more)
            if more.data is not None and is_row(*_alone(more.data, delimiter)):
                raise _Swallowing
            line = more

    try:
        fields = next(csv.reader(lines(), delimiter=delimiter, strict=True))
        return [field.replace(_RETURN, "\r") for field in fields]
    except (csv.Error, _Long, _Swallowing, StopIteration):
        feed.back(taken)
        return None


def _alone(line: bytes, delimiter: str) -> tuple[list[str], int]:
    """The fields of a line by itself, and how many of them end before its first quote; none where its quotes are not
    closed on it."""
    plain = _decoded(line.removesuffix(b"\n").removesuffix(b"\r"))
    if '"' not in plain:
        fields = plain.split(delimiter)
        return fields, len(fields)
    try:
        fields = next(csv.reader([plain.replace("\r", _RETURN)], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return [], 0
    return fields, plain.partition('"')[0].count(delimiter)


def _without_returns(line: str) -> str:
    """With another character for those that end no line: writers leave them unquoted, which the reader refuses."""
    rest = line.rstrip("\r\n")
    end = line[len(rest) :]
    last = "\r\n" if end.endswith("\r\n") else end[-1:]
    return line[: len(line) - len(last)].replace("\r", _RETURN) + last if "\r" in line else line


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _is_sound(text: str) -> bool:
    return text.isascii() or not any("\udc80" <= each <= "\udcff" for each in text)


def objects(feed: Feed) -> Iterator[Text]:
    """JSON objects, one a line. NaN and infinities, which JSON does not have, are null."""
    decoder = json.JSONDecoder(parse_constant=lambda _: None)
    while (line := feed.next()) is not None:
        if line.data is None:
            yield Text(line.start, None, "row_too_long")
        elif not line.data.strip():
            yield Text(line.start, None)
        else:
            yield Text(line.start, *_object(line.data, decoder))


def _object(data: bytes, decoder: json.JSONDecoder) -> tuple[dict[str, Any] | None, str]:
    try:
        found = decoder.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        return None, "bad_utf8"
    except (ValueError, RecursionError):
        return None, "bad_json"
    return (found, "") if isinstance(found, dict) else (None, "bad_json")
