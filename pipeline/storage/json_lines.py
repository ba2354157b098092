"""Logs of one JSON object a line, read in blocks; a line that is cut or is no object is told, never an exception."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.storage.files import RangeReader, size
from pipeline.storage.state import json_object

_BLOCK = 8 << 20  # bytes


class JsonLine(NamedTuple):
    """row: the object, or None; number: from 1; start, end: its bytes in the file; whole: it ends in a newline."""

    row: dict[str, Any] | None
    number: int
    start: int
    end: int
    whole: bool


def json_lines(url: str) -> Iterator[JsonLine]:
    """Every line that is not blank. Holds one block, not the file."""
    total, reader = size(url), RangeReader(url)
    at = number = start = 0
    rest = b""
    while at < total or rest:
        last = at >= total
        block = b"" if last else reader.read(at, min(at + _BLOCK, total))
        at += len(block)
        *lines, rest = (rest + block).split(b"\n")
        if last and rest:
            lines, rest = [*lines, rest], b""
        for i, line in enumerate(lines):
            whole = not (last and i == len(lines) - 1)
            number, end = number + 1, start + len(line) + whole
            if line.strip():
                yield JsonLine(json_object(line), number, start, end, whole)
            start = end
