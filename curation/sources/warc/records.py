"""The records of a WARC file, plain or gzip, one after another, with damage told and stepped over.

A record is passed on when its gzip member's checksum was right (or, in a file cut short, when it is complete; or, in
a plain file, when the next record follows where it should). After damage reading goes on at the next member or record.
"""

import re
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from curation.sources.warc.gunzip import MAGIC, Gunzip, Plain, next_member
from pipeline.errors import DataError
from pipeline.storage.window import Window

_VERSION = b"WARC/"
_NEXT = re.compile(rb"\r\n\r\n(?=WARC/[01]\.[0-9]+\r\n)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_HEADER_BYTES = 64 << 10
_READ = 64 << 10
_HELD_BYTES = 64 << 20  # of records waiting for the end of their gzip member
_DRAINED_BYTES = 1 << 30  # decompressed bytes of one record that are passed over before its member is given up
_SCAN = 1 << 20


@dataclass(slots=True)
class Record:
    """headers: lower-case name -> value (of a repeated one the first); block: None when it is over the size cap."""

    headers: dict[str, str]
    block: bytes | None
    start: int  # position in the decompressed stream
    end: int


@dataclass(slots=True)
class Gap:
    """Damage: `skipped` bytes of the file from `offset` on were passed over; `records` at least were lost."""

    reason: str  # truncated_file, damaged_record, bad_warc
    offset: int
    skipped: int
    records: int = 1


class _Broken(Exception):
    """The stream does not go on as a WARC at `position`; nothing behind it can be trusted."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.reason, self.position = reason, position


def read_records(path: str, block_bytes: int) -> Iterator[Record | Gap]:
    """All records and gaps in file order. Blocks over `block_bytes` are passed over, their records keep their headers.

    Raises DataError naming the file when it starts like neither gzip nor WARC, or holds no record at all.
    """
    file = Window(path)
    head = file.read(0, 5)
    if not (head.startswith(MAGIC) or head == _VERSION):
        raise _no_warc(file, f"starts with {head!r}" if head else "is empty")
    found = False
    for item in _whole_file(file, head.startswith(MAGIC), block_bytes):
        if isinstance(item, Gap) and not found and item.offset + item.skipped >= file.size:
            raise _no_warc(file, "holds no complete WARC record")
        found = found or isinstance(item, Record)
        yield item
    if not found:
        raise _no_warc(file, "holds no WARC record")


def _no_warc(file: Window, found: str) -> DataError:
    return DataError(file.where, found, "a WARC file, plain or gzip", "copy it again or take it out of `paths`")


def _whole_file(file: Window, zipped: bool, block_bytes: int) -> Iterator[Record | Gap]:
    offset = 0
    while offset < file.size:
        stream = Gunzip(file, offset) if zipped else Plain(file, offset)
        gap = yield from _trusted(stream, block_bytes)
        if gap is None:
            return
        if zipped:
            resume = next_member(file, gap.offset + 1, _VERSION)
        else:
            resume = _next_record(file, gap.offset)
        at_end = resume == file.size and not zipped and gap.reason == "damaged_record"
        reason = "truncated_file" if at_end else gap.reason
        yield Gap(reason, gap.offset, resume - gap.offset, gap.records)
        offset = resume


def _next_record(file: Window, offset: int) -> int:
    """Where in a plain file the first record behind `offset` starts; else the file's size."""
    for at in range(offset, file.size, _SCAN):
        match = _NEXT.search(file.read(at, _SCAN + 64))
        if match:
            return at + match.end()
    return file.size


def _trusted(stream: Gunzip | Plain, block_bytes: int) -> Generator[Record, None, Gap | None]:
    """Records of one stream that were verified; returns the gap that ended it (bytes not yet known), or None."""
    held: deque[Record] = deque()
    held_bytes, broken = 0, None
    records = _framed(stream, block_bytes)
    while True:
        try:
            record = next(records, None)
        except _Broken as error:
            broken = error
            break
        if record is None:
            break
        held.append(record)
        held_bytes += len(record.block or b"")
        while held and (held[0].end <= stream.verified or held_bytes > _HELD_BYTES):
            held_bytes -= len(held[0].block or b"")
            yield held.popleft()
    while held and (held[0].end <= stream.verified or stream.damage == "truncated_file"):
        yield held.popleft()
    if stream.damage:
        assert isinstance(stream, Gunzip)
        # Both the records that were complete but not verified, and the one that was being read.
        return Gap(stream.damage, stream.damaged_at, 0, max(1, len(held) + (broken is not None)))
    return Gap(broken.reason, stream.place_of(broken.position), 0) if broken else None


def _framed(stream: Gunzip | Plain, block_bytes: int) -> Iterator[Record]:
    """Cuts the stream into records. Raises _Broken where it does not go on as a WARC does."""
    window = _Front(stream)
    while window.skip_line_ends():
        start = window.position
        headers = _headers(window, start)
        length = headers.get("content-length", "").encode("utf-8", "replace")
        if not _LENGTH.fullmatch(length):
            raise _Broken("bad_warc", start)
        size = int(length)
        block = window.take(size) if size <= block_bytes else window.drain(size)
        if block is None:
            raise _Broken("damaged_record", start)
        end = window.position
        # A wrong length shows here.
        if not window.at_boundary():
            raise _Broken("damaged_record", start)
        yield Record(headers, block if size <= block_bytes else None, start, end)


def _headers(window: "_Front", start: int) -> dict[str, str]:
    head, cut = window.take_header()
    if cut and (head.startswith(_VERSION) or _VERSION.startswith(head)):
        raise _Broken("damaged_record", start)
    if cut or not head.startswith(_VERSION):
        raise _Broken("bad_warc", start)
    return dict(reversed(header_fields(head)))


def header_fields(head: bytes) -> list[tuple[str, str]]:
    """(lower-case name, value) of each field behind the first line; folded lines joined, lines without colon out."""
    lines: list[str] = []
    for line in head.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")[1:]:
        if line[:1] in (" ", "\t") and lines:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    fields = (line.partition(":") for line in lines)
    return [(name.strip().lower(), value.strip()) for name, colon, value in fields if colon]


class _Front:
    """The next bytes of a stream."""

    def __init__(self, stream: Gunzip | Plain) -> None:
        self._stream = stream
        self._bytes = bytearray()
        self.position = 0  # of the first byte of `_bytes` in the stream

    def _fill(self, count: int) -> bool:
        """Holds at least `count` bytes if the stream has them."""
        while len(self._bytes) < count:
            data = self._stream.read(max(_READ, count - len(self._bytes)))
            if not data:
                return False
            self._bytes += data
        return True

    def _drop(self, count: int) -> None:
        del self._bytes[:count]
        self.position += count

    def skip_line_ends(self) -> bool:
        """Goes to the next byte that is no line end; False at the end of the stream."""
        while self._fill(1):
            rest = self._bytes.lstrip(b"\r\n")
            self._drop(len(self._bytes) - len(rest))
            if rest:
                return True
        return False

    def take_header(self) -> tuple[bytes, bool]:
        """The bytes up to the empty line, and whether the stream ends before it. Nothing when it is over the cap."""
        searched = 0
        while True:
            ends = self._bytes.find(b"\r\n\r\n", max(0, searched - 3))
            if ends >= 0:
                head = bytes(self._bytes[:ends])
                self._drop(ends + 4)
                return head, False
            searched = len(self._bytes)
            if searched > _HEADER_BYTES:
                return b"", False
            if not self._fill(searched + 1):
                return bytes(self._bytes), True

    def take(self, size: int) -> bytes | None:
        if not self._fill(size):
            return None
        block = bytes(memoryview(self._bytes)[:size])
        self._drop(size)
        return block

    def drain(self, size: int) -> bytes | None:
        """Passes over `size` bytes; None when there are fewer, or too many to go on."""
        left = min(size, _DRAINED_BYTES + 1)
        while left and self._fill(1):
            count = min(left, len(self._bytes))
            self._drop(count)
            left -= count
        return b"" if not left and size <= _DRAINED_BYTES else None

    def at_boundary(self) -> bool:
        """Whether a record may end here: two line ends, or the next record, or the end of what the stream gives."""
        self._fill(4 + len(_VERSION))
        rest = bytes(self._bytes[: 4 + len(_VERSION)])
        following = rest.lstrip(b"\r\n")
        return rest.startswith(b"\r\n\r\n") or _VERSION.startswith(following[: len(_VERSION)])
