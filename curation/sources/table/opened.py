"""A table whose columns are known, read from any of its places on."""

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

from curation.sources.table import lines, parquet, streams
from curation.sources.table.fronts import checked
from curation.sources.table.layout import (
    Layout,
    Names,
    Unknown,
    has_header,
    is_url,
    layout_of,
    layout_of_row,
    shown,
    without_header,
)
from curation.sources.table.lines import Feed, Text
from curation.sources.table.reading import Reading, further
from pipeline import storage
from pipeline.errors import DataError

_LOOKED_AT = 100  # first rows of a table whose columns have no names, or a name in each row
_LAYOUTS = 1000  # of the rows of one file of objects, known at a time


class Opened(Protocol):
    def read(self, start: int, stop: int | None, reading: Reading) -> int | None:
        """Reads the rows at [start, stop); returns where the first one behind them is, None at the end."""
        ...


class ParquetTable:
    """Places are those of row groups. most: bytes of an image that is read."""

    def __init__(self, url: str, names: Names, most: int) -> None:
        self._table, self._most = parquet.Table(url), most
        self._layout = layout_of(self._table.columns, names, self._table.of_bytes)
        self._further = further(self._table.columns, self._layout)

    def read(self, start: int, stop: int | None, reading: Reading) -> int | None:
        for group, place in enumerate(self._table.places):
            if stop is not None and place >= stop:
                return place
            if place >= start:
                self._read(group, reading)
        return None

    def _read(self, group: int, reading: Reading) -> None:
        """One row group, as far as it can be read."""
        at = 0
        try:
            for row in self._table.rows(group, self._layout.known, self._layout.image, self._most):
                where = f"row {at} of row group {group}"
                at += 1
                reading.counts.update({"odd_values": row.odd} if row.odd else {})
                if row.reason:
                    reading.bad(row.reason, where)
                else:
                    reading.row(row.values, self._layout, self._further, where)
        except DataError as error:
            reading.lost(error, f"row {at} of row group {group}", max(1, self._table.count(group) - at))


class _TextTable:
    """Places are offsets of rows."""

    def __init__(self, url: str, packed: str) -> None:
        self._url, self._packed = url, packed
        self._front = 0  # where rows begin, behind a header

    def _texts(self, feed: Feed) -> Iterator[Text]:
        raise NotImplementedError

    def _row(self, values: Any, reading: Reading, place: str) -> None:
        raise NotImplementedError

    def _all(self, start: int) -> Iterator[Text]:
        """From a row on, where a packed file is read from its front all the same."""
        start = 0 if self._packed else start
        blocks = streams.blocks(self._url, self._packed, start)
        return self._texts(Feed(blocks if start else checked(blocks, storage.shown(self._url)), start))

    def _first(self) -> list[Text]:
        """Rows of the front, but blank lines."""
        found: list[Text] = []
        try:
            for each in islice((each for each in self._all(0) if each.values or each.reason), _LOOKED_AT):
                found.append(each)
        except streams.CutShort:
            if not found:
                raise
        return found

    def read(self, start: int, stop: int | None, reading: Reading) -> int | None:
        start = max(start, self._front)
        if stop is not None and start >= stop:
            return start
        try:
            for text in self._all(start):
                if stop is not None and text.start >= stop:
                    return text.start
                if text.start >= start:
                    self._take(text, reading)
        except streams.CutShort as error:
            reading.lost(error, error.where)
        return None

    def _take(self, text: Text, reading: Reading) -> None:
        reading.counts.update({"stray_quotes": 1} if text.stray else {})
        place = f"row at {'unpacked ' if self._packed else ''}byte {text.start}"
        if text.reason:
            reading.bad(text.reason, place)
        elif text.values is not None:
            self._row(text.values, reading, place)
        else:
            reading.counts["blank_lines"] += 1


class DelimitedTable(_TextTable):
    """csv and tsv. header: whether there is one, or the names; None: seen."""

    def __init__(self, url: str, packed: str, names: Names, delimiter: str, header: bool | list[str] | None) -> None:
        super().__init__(url, packed)
        self._delimiter = delimiter
        self._columns, self._layout, self._further = list[str](), Layout("", (), ""), list[str]()
        first = self._first()
        rows = [each.values for each in first if each.values]
        if header is None:
            header = has_header(rows[0], names) if rows and not first[0].reason else not rows
        if isinstance(header, list):
            self._columns = header
        elif not header:
            self._columns = without_header(rows, names)
        elif first:
            if first[0].reason:
                raise Unknown("header", f"a first row that is no row: {first[0].reason}", "names of columns")
            self._columns = [name.strip() or str(at) for at, name in enumerate(first[0].values)]
            _check_delimiter(self._columns, delimiter)
            self._front = next((each.start for each in self._all(0) if each.start > first[0].start), sys.maxsize)
        if first:
            self._layout = layout_of(self._columns, names)
            self._further = further(self._columns, self._layout)

    def _texts(self, feed: Feed) -> Iterator[Text]:
        return lines.delimited(feed, self._delimiter, self._is_row)

    def _is_row(self, values: list[str], before: int) -> bool:
        """Whether a line inside quotes, read by itself, is a row: then a quote before it was never closed. An url
        behind a quote says nothing: that may be the end of a caption of several lines."""
        if not self._layout.url or len(values) != len(self._columns):
            return False
        at = self._columns.index(self._layout.url)
        return at < before and is_url(values[at])

    def _row(self, values: list[str], reading: Reading, place: str) -> None:
        if len(values) != len(self._columns):
            reading.bad("few_fields" if len(values) < len(self._columns) else "many_fields", place)
            return
        reading.row(dict(zip(self._columns, values, strict=True)), self._layout, self._further, place)


def _check_delimiter(columns: list[str], delimiter: str) -> None:
    """Raises Unknown where the names of several columns seem to be parted by another character."""
    other = next((mark for mark in "\t;|," if mark != delimiter and mark in columns[0]), "")
    if len(columns) == 1 and other:
        raise Unknown("delimiter", f"one column {shown(columns)}", f"columns parted by {delimiter!r}, not by {other!r}")


def _tells(columns: tuple[str, ...], names: Names) -> bool:
    try:
        layout_of(columns, names)
    except Unknown:
        return False
    return True


class ObjectsTable(_TextTable):
    """JSON lines: each row names its own columns. Unknown when none of the first ones has what is needed."""

    def __init__(self, url: str, packed: str, names: Names) -> None:
        super().__init__(url, packed)
        self._names, self._layouts = names, dict[tuple[str, ...], tuple[Layout, list[str]] | str]()
        first = self._first()
        rows = [tuple(each.values) for each in first if each.values]
        if first and not rows:
            raise Unknown("format", f"no JSON object in the first {len(first)} rows", "one a line, not an array")
        if first and not any(_tells(row, names) for row in rows):
            layout_of(list(dict.fromkeys(name for row in rows for name in row)), names)

    def _texts(self, feed: Feed) -> Iterator[Text]:
        return lines.objects(feed)

    def _layout(self, columns: tuple[str, ...]) -> tuple[Layout, list[str]] | str:
        """Of a row with these columns, or the reason why it has none."""
        found = self._layouts.get(columns)
        if found is None:
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            layout = layout_of_row(columns, self._names)
            found = layout if isinstance(layout, str) else (layout, further(columns, layout))
            self._layouts[columns] = found
        return found

    def _row(self, values: dict[str, Any], reading: Reading, place: str) -> None:
        found = self._layout(tuple(values))
        if isinstance(found, str):
            reading.bad(found, place)
        else:
            reading.row(values, *found, place)
