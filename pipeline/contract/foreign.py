"""Members of tars that others wrote: what is odd is named, what is damaged is passed over, and nothing else is lost.

Long names (pax `path`, GNU), sizes in base 256, tars older than ustar and both ways of summing a header are read, as
Python's and GNU's tar read them. A link, a device, a sparse file, a name that is no UTF-8: a member that says so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.contract.tar import BLOCK, MAX_PAX, Member, check_end, damage, padding, pax_fields
from pipeline.errors import DataError
from pipeline.storage.window import READ_AHEAD, Window

MAX_GAPS = 1000  # damaged places in one tar after which it is not read further
_OCTAL = re.compile(rb" *([0-7]*) *")
_FILE, _FOLDER, _SPARSE = (b"0", b"\0", b"7"), b"5", b"S"
_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL = b"L", b"K", (b"x", b"X"), b"g"
# These have no payload, whatever the size in their header says.
_BODILESS = {b"1": "link", b"2": "link", b"3": "device", b"4": "device", b"6": "fifo"}


class Gap(NamedTuple):
    """Bytes [start, end) of which no member could be made, why, and the name of a sound header that begins them."""

    start: int
    end: int
    error: DataError
    name: str = ""


class _Header(NamedTuple):
    name: bytes
    size: int
    kind: bytes
    continued: bool  # of an old GNU sparse file: more of its map follows


@dataclass
class _Extra:
    """What extended headers say of the member after them."""

    name: bytes | None = None
    size: int | None = None
    odd: str = ""


def foreign_members(window: Window) -> Iterator[Member | Gap]:
    """Every file and folder in order, the odd ones with a reason, and a Gap where damage lies.

    Behind damage, reading goes on at the next block that is a whole tar header. The size of the member before a bad
    header is suspect, so the search begins in its payload. Whether two members belong together is for the caller.
    """
    at = gaps = 0
    while True:
        run = _Run(window, at)
        try:
            yield from run.members()
            return
        except DataError as error:
            gaps += 1
            found = _next_header(window, run.suspect) if gaps < MAX_GAPS else window.size
            yield Gap(min(run.first, found), found, error, run.cut)
            if found >= window.size:
                return
            at = found


class _Run:
    """One walk from a header up to the end mark or the first damage.

    suspect: where lost headers may begin; first: of the broken member; cut: its name when only its payload is missing.
    """

    def __init__(self, window: Window, at: int) -> None:
        self.window, self.at, self.first, self.suspect, self.cut = window, at, at, at + BLOCK, ""
        self._everywhere: dict[bytes, bytes] = {}  # fields of global extended headers

    def members(self) -> Iterator[Member]:
        """Raises DataError at the first damage of the framing."""
        window, extra = self.window, _Extra()
        while any(block := window.exactly(self.at, BLOCK)):
            head = _header(block, window.where, self.at)
            if head.kind in (*_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK):
                start = self._framed(self.at + BLOCK, head.size, "an extended header")
                self._extend(extra, head, start)
                continue
            member = self._member(head, extra)
            yield member
            self.at = self.first = member.end
            extra = _Extra()
        self.suspect = max(self.suspect, self.at + BLOCK)
        check_end(window, self.at)

    def _framed(self, start: int, size: int, what: str) -> int:
        """`start` of a payload that ends inside the file. Raises DataError when it does not."""
        end, header = start + size + padding(size), self.at
        self.suspect = start
        if end > self.window.size:
            found = f"{what} ending at {end} in a file of {self.window.size} bytes"
            raise damage(self.window.where, header, found, "a member inside the file: it is cut or damaged")
        self.at = end
        return start

    def _extend(self, extra: _Extra, head: _Header, start: int) -> None:
        """Takes one extended header into `extra`."""
        if head.size > MAX_PAX:
            extra.odd = "long_header"
            return
        data = self.window.exactly(start, head.size)
        if head.kind == _LONG_NAME:
            _named(extra, data.split(b"\0")[0])
        elif head.kind != _LONG_LINK:
            try:
                fields = dict(pax_fields(data.rstrip(b"\0")))
            except ValueError:
                extra.odd = "bad_header"
                return
            if head.kind == _GLOBAL:
                self._everywhere |= {name: fields[name] for name in fields if _matters(name)}
            else:
                _apply(extra, self._everywhere | fields)

    def _member(self, head: _Header, extra: _Extra) -> Member:
        if extra.name is None and extra.size is None and self._everywhere:
            _apply(extra, self._everywhere)
        name, odd = _decoded(head.name if extra.name is None else extra.name)
        is_folder = head.kind == _FOLDER or (head.kind == b"\0" and name.endswith("/"))
        size = head.size if extra.size is None else extra.size
        start = self.at + BLOCK
        if is_folder or head.kind in _BODILESS:
            size = 0
        elif head.kind == _SPARSE:
            start = self._behind_map(start, head.continued)
        odd = extra.odd or _BODILESS.get(head.kind) or ("sparse" if head.kind == _SPARSE else odd)
        if not (odd or is_folder or head.kind in _FILE):
            odd = "special"
        self.cut = name
        self._framed(start, size, f"member {name!r}")
        self.cut = ""
        if not odd and any(self.window.exactly(start + size, padding(size))):
            odd = "padding"
        return Member(name, self.first, start, size, self.at, is_folder, odd)

    def _behind_map(self, start: int, continued: bool) -> int:
        """Where the payload of an old GNU sparse file begins: behind the rest of its map."""
        while continued:
            continued = self.window.exactly(start, BLOCK)[504] != 0
            start += BLOCK
        return start


def _matters(name: bytes) -> bool:
    return name in (b"path", b"size", b"hdrcharset") or name.startswith(b"GNU.sparse.")


def _apply(extra: _Extra, fields: dict[bytes, bytes]) -> None:
    name = fields.get(b"GNU.sparse.name", fields.get(b"path"))
    if name is not None:
        _named(extra, name)
    size = fields.get(b"size")
    if size is not None:
        if size.isdigit() and len(size) < 20:
            extra.size = int(size)
        else:
            extra.odd = "bad_header"
    if any(name.startswith(b"GNU.sparse.") for name in fields):
        extra.odd = "sparse"


def _named(extra: _Extra, name: bytes) -> None:
    if extra.name not in (None, name):
        extra.odd = "two_names"  # readers differ in which one they take
    extra.name = name


def _decoded(name: bytes) -> tuple[str, str]:
    try:
        return name.decode(), ""
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape"), "name_not_utf8"


def _header(block: bytes, where: str, at: int) -> _Header:
    """One header block by its checksum, of whatever age. Raises DataError when it is none."""
    if not _sums_up(block):
        raise damage(where, at, f"header checksum {block[148:156]!r}", "the sum of the header: it is damaged or no tar")
    size = _number(block[124:136])
    if size is None:
        raise damage(where, at, f"size field {block[124:136]!r}", "a size: the header is damaged or hostile")
    prefix = block[345:500].split(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    name = (prefix + b"/" if prefix else b"") + block[:100].split(b"\0")[0]
    return _Header(name, size, block[156:157], block[482] != 0)


def _sums_up(block: bytes) -> bool:
    written = _number(block[148:156])
    summed = block[:148] + b" " * 8 + block[156:]
    # Old writers summed signed bytes.
    return written == sum(summed) or written == sum(byte - 256 * (byte > 127) for byte in summed)


def _number(written: bytes) -> int | None:
    """Octal, or base 256 when the first byte says so; None for anything else and for what is below 0."""
    if written[:1] == b"\x80":
        return int.from_bytes(written[1:], "big")
    octal = _OCTAL.fullmatch(written.split(b"\0")[0])
    return int(octal[1] or b"0", 8) if octal else None


def _next_header(window: Window, start: int) -> int:
    """Offset of the first block from `start` that carries the mark of ustar and sums up; the file's size if none."""
    for begin in range(start, window.size, READ_AHEAD):
        data = window.read(begin, min(READ_AHEAD, window.size - begin))
        mark = data.find(b"ustar")
        while mark >= 0:
            at = mark - 257
            block = data[at : at + BLOCK]
            if at >= 0 and at % BLOCK == 0 and len(block) == BLOCK and _sums_up(block):
                return begin + at
            mark = data.find(b"ustar", mark + 1)
    return window.size
