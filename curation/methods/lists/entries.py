"""The entries of a list file, one by one, at any size: text, JSON or parquet, on a local disk or any fsspec URL.

*.parquet, *.pq        the values of `column`
*.json                 a list of texts, or of objects with a field `column`
*.jsonl, *.ndjson      such a text or object a line
anything else          one entry a line; empty lines, and what stands behind a `#` that begins a line or follows a
                       space, are left out. A byte order mark is, too
*.gz of a text or JSON is unpacked
"""

import gzip
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from curation.table.parquet import column_batches
from pipeline import storage
from pipeline.errors import DataError, RecipeError, StorageError, one_line
from pipeline.storage import Window

Entry = tuple[int, Any]
"""Line or row, from 1, and what stands there: a text, a number, or None where nothing can be read."""
_PARQUET, _JSON, _LINES = (".parquet", ".pq"), (".json",), (".jsonl", ".ndjson")
_LONGEST = 1 << 16  # bytes of a line
_MARK = b"\xef\xbb\xbf"
_BLOCK, _BATCH = 1 << 22, 1 << 16  # bytes, entries at once
_JSON_BYTES = 1 << 30  # of a *.json, which is held whole
_COMMENT = re.compile(r"(?:^|\s)#.*")


def entries(path: str, column: str | None, where: str) -> Iterator[Entry]:
    """RecipeError naming `where` and the file when it is not what its name says, or has no such column."""
    name = path.lower().removesuffix(".gz")
    needs = name.endswith(_PARQUET)
    if needs and column is None:
        raise _fault(where, path, "is parquet, and no column is named", f"add {where}.column=NAME")
    try:
        if needs:
            yield from _of_parquet(path, str(column))
        elif name.endswith(_JSON):
            yield from _of_json(path, column)
        elif name.endswith(_LINES):
            yield from ((at, _field(_json(line), column)) for at, line in _lines(path) if line is None or line.strip())
        else:
            found = ((begun + at, entry) for begun, some in _blocks(path) for at, entry in enumerate(some))
            yield from (
                (at, entry.strip() if entry else entry) for at, entry in found if entry is None or entry.strip()
            )
    except KeyError as error:
        raise _fault(where, path, f"has no column `{column}`, but {error.args[0]}", f"correct {where}.column") from None
    except (DataError, StorageError) as error:
        raise _fault(where, path, error.found) from None
    except (OSError, EOFError, ValueError) as error:  # not gzip, cut, no JSON
        raise _fault(where, path, one_line(error)) from None


def rows(path: str, columns: Sequence[str | None], where: str) -> Iterator[tuple[Any, ...]]:
    """The values of `columns` in each row of a table or list, as it stands there: of a text its lines, of which no
    comment is taken out, as the first column. None where there is no such value. Errors as of `entries`."""
    name = path.lower().removesuffix(".gz")
    plain = not name.endswith((*_PARQUET, *_JSON, *_LINES))
    if plain and len(columns) > 1:
        raise _fault(where, path, "is a plain text, which has no columns", "write it as .jsonl or parquet")
    try:
        if plain:
            for _, line in _lines(path):
                yield (None if line is None else line.rstrip("\r\n"),)
        elif name.endswith(_PARQUET):
            yield from zip(*(_values(path, column, where) for column in columns), strict=True)
        elif name.endswith(_JSON):
            for value in _loaded(path):
                yield tuple(_field(value, column) for column in columns)
        else:
            for value in (_json(line) for _, line in _lines(path) if line is None or line.strip()):
                yield tuple(_field(value, column) for column in columns)
    except KeyError as error:
        raise _fault(where, path, f"has no column {error}") from None
    except (DataError, StorageError) as error:
        raise _fault(where, path, error.found) from None
    except (OSError, EOFError, ValueError) as error:
        raise _fault(where, path, one_line(error)) from None


def _values(path: str, column: str | None, where: str) -> Iterator[Any]:
    if column is None:
        raise _fault(where, path, "is parquet, and no column is named", "name the column")
    for batch in column_batches(path, column):
        yield from batch.to_pylist()


def entry_batches(path: str, column: str | None, where: str) -> Iterator[tuple[int, list[Any]]]:
    """(line of the first, what stands in that line and each after it) of some lines at a time, for long lists: nothing
    is left out of a text, so the caller skips what is "" (blank, or a comment). Errors as of `entries`."""
    if not path.lower().removesuffix(".gz").endswith((*_PARQUET, *_JSON, *_LINES)):
        try:
            yield from _blocks(path)
        except (DataError, StorageError) as error:
            raise _fault(where, path, error.found) from None
        except (OSError, EOFError) as error:
            raise _fault(where, path, one_line(error)) from None
        return
    some: list[Any] = []
    begun, last = 1, 0
    for at, entry in entries(path, column, where):
        if at != last + 1 or len(some) >= _BATCH:
            yield from ([(begun, some)] if some else [])
            some, begun = [], at
        some.append(entry)
        last = at
    if some:
        yield begun, some


def _blocks(path: str) -> Iterator[tuple[int, list[Any]]]:
    """The lines of a text, many at once."""
    number, rest = 1, b""
    with _unpacked(path) as file:
        while data := file.read(_BLOCK):
            data = rest + data
            cut = data.rfind(b"\n") + 1
            rest = data[cut:] if cut else data[:_LONGEST]  # of an endless line no more than shows that it is one
            if cut:
                lines = _plain_lines(data[: cut - 1], number)
                yield number, lines
                number += len(lines)
    if rest:
        yield number, _plain_lines(rest, number)


def _plain_lines(block: bytes, number: int) -> list[Any]:
    """What stands in the lines of a block, without comments; None as in `_lines`. number: of the first in the file."""
    block = block.removeprefix(_MARK) if number == 1 else block
    lines = block.replace(b"\r\n", b"\n").split(b"\n")
    try:
        found: list[Any] = block.replace(b"\r\n", b"\n").decode().split("\n")
    except UnicodeDecodeError:
        found = [_decoded(line) for line in lines]
    if b"#" in block:
        found = [_COMMENT.sub("", line) if line and "#" in line else line for line in found]
    return [None if len(line) >= _LONGEST else text for line, text in zip(lines, found, strict=True)]


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _fault(where: str, path: str, found: str, hint: str = "") -> RecipeError:
    return RecipeError(where, f"{storage.shown(path)}: {found}", "expected a list (text, JSON or parquet)", hint)


def _of_parquet(path: str, column: str) -> Iterator[Entry]:
    at = 0
    for batch in column_batches(path, column):
        for value in batch.to_pylist():
            at += 1
            if value is not None:
                yield at, value


def _of_json(path: str, column: str | None) -> Iterator[Entry]:
    yield from ((at, _field(value, column)) for at, value in enumerate(_loaded(path), 1))


def _loaded(path: str) -> list[Any]:
    with _unpacked(path) as file:
        data = file.read(_JSON_BYTES + 1)
    if len(data) > _JSON_BYTES:
        raise ValueError(f"more than {_JSON_BYTES} bytes of JSON: write one entry a line, as .jsonl")
    found = json.loads(data)
    if not isinstance(found, list):
        raise ValueError(f"holds a {type(found).__name__}, not a list")
    return found


def _json(line: str | None) -> Any:
    try:
        return None if line is None else json.loads(line)
    except ValueError:
        return None


def _field(value: Any, column: str | None) -> Any:
    return value.get(column) if isinstance(value, dict) else value


def _lines(path: str) -> Iterator[tuple[int, str | None]]:
    """None for a line that is no UTF-8, or longer than any entry."""
    with _unpacked(path) as file:
        number, whole = 0, True
        while data := file.readline(_LONGEST):
            begins, whole = whole, data.endswith(b"\n")
            if not begins:
                continue  # the rest of a line that was told
            number += 1
            if not whole and len(data) == _LONGEST:
                yield number, None
                continue
            try:
                text = data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                yield number, None
                continue
            yield number, text


def _unpacked(path: str) -> io.BufferedIOBase:
    plain = io.BufferedReader(_Bytes(path), 1 << 20)
    return gzip.GzipFile(fileobj=plain) if path.lower().endswith(".gz") else plain


class _Bytes(io.RawIOBase):
    """A file of a store, front to back."""

    def __init__(self, url: str) -> None:
        self._window, self._at = Window(url), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._window.read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
