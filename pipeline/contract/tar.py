"""Tar members, written and read by our own strict rules (foreign.py reads what others wrote, by tolerant ones).

Python's tarfile accepts cut and bit-flipped archives in silence and, before 3.11.14, hangs on a crafted size, so no
header of a file we did not check is ever given to it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import DataError
from pipeline.storage.window import READ_AHEAD, Window

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_PAX = 64 << 10  # bytes
_OCTAL = re.compile(rb"[0-7]+[ \0]*|\0+")
_FILE, _FOLDER, _PAX = (b"0", b"\0"), b"5", (b"x", b"g")
# What an extended header may say: times and owners. Never a size, a path or a sparse map, which change what is read.
_PAX_RECORD = re.compile(rb"([0-9]{1,5}) ([^=\n]*)=")
_PAX_FIELD = re.compile(rb"mtime|atime|ctime|uid|gid|uname|gname|comment|LIBARCHIVE\..*|SCHILY\.(?!real).*")


class Member(NamedTuple):
    """name as written; header: offset of the first header; start, size: of the payload; end: after its padding.

    odd: why it is not to be used, or "" (`foreign.foreign_members`; `members` raises instead).
    """

    name: str
    header: int
    start: int
    size: int
    end: int
    is_folder: bool
    odd: str = ""


def padding(size: int) -> int:
    return -size % BLOCK


def pack_header(name: str, size: int) -> bytes:
    """A ustar header with fixed times, owner and mode: the same member gives the same bytes."""
    encoded = name.encode("ascii")
    if len(encoded) > 100 or size >= 8**11:
        raise DataError(name, f"a member of {size} bytes", "a name up to 100 characters and less than 8 GiB")
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (encoded.ljust(100, b"\0"), 0o644, 0, 0, size, 0)
    tail = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"%07o\0%07o\0" % (0, 0) + bytes(167)
    return head + _checksum(sum(head) + sum(tail) + 8 * ord(" ")) + tail


def _checksum(total: int) -> bytes:
    """The checksum field; exactly these bytes are accepted, so that no flipped bit of it goes unseen."""
    return b"%06o\0 " % total


def damage(where: str, offset: int, found: str, expected: str) -> DataError:
    return DataError(f"{where} at byte {offset}", found, expected, "copy or make this shard again")


def _number(field: bytes, where: str, offset: int, label: str) -> int:
    if not _OCTAL.fullmatch(field):  # also refuses negative and base-256 sizes
        raise damage(where, offset, f"{label} field {field!r}", "octal digits: the header is damaged or hostile")
    return int(field.rstrip(b" \0") or b"0", 8)


def _header(block: bytes, where: str, offset: int) -> tuple[str, int, bytes]:
    """(name, payload bytes, type flag) of one checked header block."""
    mark, written = block[257:265], block[148:156]
    if mark not in (b"ustar\x0000", b"ustar  \0"):
        raise damage(
            where, offset, f"{mark!r} where a tar header has its mark", "ustar: it is cut, damaged or no plain tar"
        )
    total = sum(block) - sum(written) + 8 * ord(" ")
    if written != _checksum(total):
        raise damage(where, offset, f"header checksum {written!r}", f"{_checksum(total)!r}: the header is damaged")
    prefix = block[345:500].rstrip(b"\0") if mark[5] == 0 else b""
    raw = (prefix + b"/" if prefix else b"") + block[:100].rstrip(b"\0")
    try:
        return raw.decode(), _number(block[124:136], where, offset, "size"), block[156:157]
    except UnicodeDecodeError as error:
        raise damage(where, offset, f"member name {raw!r}", "UTF-8") from error


def pax_fields(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(field, value) of an extended header's records. Raises ValueError at the first malformed one."""
    at = 0
    while at < len(data):
        record = _PAX_RECORD.match(data, at)
        end = at + int(record[1]) if record else 0
        if not record or not record.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ValueError("a malformed extended header")
        yield record[2], data[record.end() : end - 1]
        at = end


def _check_pax(data: bytes, where: str, offset: int) -> None:
    try:
        for field, _ in pax_fields(data):
            if not _PAX_FIELD.fullmatch(field):
                raise damage(where, offset, f"an extended header setting {field!r}", "only times and owners")
    except ValueError as error:
        raise damage(where, offset, str(error), "records of <length> <field>=<value>") from error


def members(window: Window) -> Iterator[Member]:
    """Every file and folder of the archive in order. Raises DataError naming file and offset at the first damage:
    a cut, a bad header, a link or device, nonzero padding, a missing end mark or bytes after it."""
    where, offset, first = window.where, 0, 0
    while any(block := window.exactly(offset, BLOCK)):
        name, size, kind = _header(block, where, offset)
        start = offset + BLOCK
        end = start + size + padding(size)
        if end > window.size:
            found = f"member {name!r} ending at {end} in a file of {window.size} bytes"
            raise damage(where, offset, found, "a member inside the file: it is cut or damaged")
        if kind in _PAX and size <= MAX_PAX:
            _check_pax(window.exactly(start, size), where, offset)
        elif kind in _FILE or (kind == _FOLDER and size == 0):
            yield Member(name, first, start, size, end, kind == _FOLDER)
        else:
            raise damage(where, offset, f"member {name!r} of type {kind!r}", "regular files only")
        if any(window.exactly(start + size, padding(size))):
            raise damage(where, start + size, "nonzero padding", "zeros: it is damaged")
        offset = end
        first = first if kind in _PAX else end  # an extended header belongs to the member after it
    check_end(window, offset)


def check_end(window: Window, offset: int) -> None:
    """After the first zero block: at least one more, and nothing but zeros."""
    window.exactly(offset, 2 * BLOCK)
    for at in range(offset, window.size, READ_AHEAD):
        if any(window.exactly(at, min(READ_AHEAD, window.size - at))):
            raise damage(window.where, at, "bytes after the end of the archive", "zeros: two tars in one, or damage")
