"""Tar members, written and read by our own strict rules.

Python's tarfile accepts cut and bit-flipped archives in silence and, before 3.11.14, hangs on a crafted size, so no
header of a file we did not check is ever given to it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.contract import storage
from pipeline.errors import DataError

BLOCK = 512
END = bytes(2 * BLOCK)
READ_AHEAD = 4 << 20  # bytes
MAX_PAX = 64 << 10  # bytes
_OCTAL = re.compile(rb"[0-7]+[ \0]*|\0+")
_CHECKSUM = re.compile(rb"[0-7]{6}\0 ")
_FILE, _FOLDER, _PAX = (b"0", b"\0"), b"5", (b"x", b"g")
# What an extended header may say: times and owners. Never a size, a path or a sparse map, which change what is read.
_PAX_FIELD = re.compile(rb"mtime|atime|ctime|uid|gid|uname|gname|comment|LIBARCHIVE\..*|SCHILY\.(?!real).*")


class Member(NamedTuple):
    """name as written; header: offset of the first header; start, size: of the payload; end: after its padding."""

    name: str
    header: int
    start: int
    size: int
    end: int
    is_folder: bool


def padding(size: int) -> int:
    return -size % BLOCK


def pack_header(name: str, size: int) -> bytes:
    """A ustar header with fixed times, owner and mode: the same member gives the same bytes."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size >= 8**11:
        raise DataError(name, f"a member of {size} bytes", "a name up to 100 characters and less than 8 GiB")
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (encoded.ljust(100, b"\0"), 0o644, 0, 0, size, 0)
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"%07o\0%07o\0" % (0, 0) + bytes(167)
    checksum = sum(head) + sum(tail) + 8 * ord(" ")
    return head + b"%06o\0 " % checksum + tail


class Window:
    """Reads one file front to back in large blocks; knows where the file ends."""

    def __init__(self, url: str) -> None:
        self.where, self.size = storage.shown(url), storage.size(url)
        self._reader, self._start, self._block = storage.RangeReader(url), 0, b""

    def read(self, start: int, size: int) -> bytes:
        """Raises DataError when the file ends before start + size."""
        end = start + size
        if end > self.size:
            raise damage(self.where, start, f"the file ends at {self.size}", f"{size} bytes expected: it is cut")
        if start < self._start or end > self._start + len(self._block):
            self._start, self._block = start, self._reader.read(start, min(self.size, max(end, start + READ_AHEAD)))
        return self._block[start - self._start : end - self._start]


def damage(where: str, offset: int, found: str, expected: str) -> DataError:
    return DataError(f"{where} at byte {offset}", found, expected, "copy or make this shard again")


def _number(field: bytes, where: str, offset: int, label: str) -> int:
    if not _OCTAL.fullmatch(field):  # also refuses negative and base-256 sizes
        raise damage(where, offset, f"{label} field {field!r}", "octal digits: the header is damaged or hostile")
    return int(field.rstrip(b" \0") or b"0", 8)


def _header(block: bytes, where: str, offset: int) -> tuple[str, int, bytes]:
    """(name, payload bytes, type flag) of one checked header block."""
    if block[257:265] not in (b"ustar\x0000", b"ustar  \0"):
        raise damage(where, offset, f"{block[257:265]!r} where a tar header has its mark", "a ustar header: it is cut, damaged or no plain tar")
    if not _CHECKSUM.fullmatch(block[148:156]) or int(block[148:154], 8) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise damage(where, offset, f"header checksum {block[148:156]!r}", "the sum of its bytes: the header is damaged")
    prefix = block[345:500].rstrip(b"\0") if block[257:263] == b"ustar\0" else b""
    raw = (prefix + b"/" if prefix else b"") + block[:100].rstrip(b"\0")
    try:
        return raw.decode(), _number(block[124:136], where, offset, "size"), block[156:157]
    except UnicodeDecodeError as error:
        raise damage(where, offset, f"member name {raw!r}", "UTF-8") from error


def _check_pax(data: bytes, where: str, offset: int) -> None:
    while data:
        length, _, rest = data.partition(b" ")
        field, equals, _ = rest.partition(b"=")
        if not (length.isdigit() and len(length) < 6 and len(length) + 1 < int(length) <= len(data) and equals):
            raise damage(where, offset, "a malformed extended header", "records of <length> <field>=<value>")
        if not _PAX_FIELD.fullmatch(field):
            raise damage(where, offset, f"an extended header setting {field!r}", "only times and owners")
        data = data[int(length) :]


def members(window: Window) -> Iterator[Member]:
    """Every file and folder of the archive in order. Raises DataError naming file and offset at the first damage:
    a cut, a bad header, a link or device, nonzero padding, a missing end mark or bytes after it."""
    where, offset, first = window.where, 0, None
    while True:
        if offset == window.size:
            raise damage(where, offset, "the file ends", "two zero blocks that end a tar: it is cut")
        block = window.read(offset, BLOCK)
        if not any(block):
            break
        name, size, kind = _header(block, where, offset)
        first = offset if first is None else first
        start = offset + BLOCK
        end = start + size + padding(size)
        if end > window.size:
            raise damage(where, offset, f"member {name!r} of {size} bytes in a file of {window.size}", f"{end} bytes: it is cut or damaged")
        if any(window.read(start + size, padding(size))):
            raise damage(where, start + size, "nonzero padding", "zeros: it is damaged")
        if kind in _PAX and size <= MAX_PAX:
            _check_pax(window.read(start, size), where, offset)
        elif kind in _FILE or (kind == _FOLDER and size == 0):
            yield Member(name, first, start, size, end, kind == _FOLDER)
            first = None
        else:
            raise damage(where, offset, f"member {name!r} of type {kind!r}", "regular files only")
        offset = end
    _check_end(window, offset)


def _check_end(window: Window, offset: int) -> None:
    """After the first zero block: at least one more, and nothing but zeros."""
    if offset + 2 * BLOCK > window.size:
        raise damage(window.where, offset, "one zero block", "two zero blocks that end a tar: it is cut")
    while offset < window.size:
        size = min(READ_AHEAD, window.size - offset)
        if any(window.read(offset, size)):
            raise damage(window.where, offset, "bytes after the end of the archive", "zeros: two tars in one file, or damage")
        offset += size
