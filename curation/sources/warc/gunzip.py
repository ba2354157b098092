"""Gzip read as members: a stream that knows which of its bytes were verified, and where to go on after damage.

Python's, warcio's and FastWARC's readers take a cut file as complete, or lose everything behind one flipped bit.
"""

import copy
import re
import zlib
from collections import deque
from typing import ClassVar, Protocol

from pipeline.storage.window import Window

MAGIC = b"\x1f\x8b\x08"
VERSION = b"WARC/"
_MEMBER = re.compile(rb"\x1f\x8b\x08(?=[\x00-\x1f])")  # the three high flag bits are reserved; members may overlap
_FEED = 16 << 10  # compressed bytes given to zlib at once: most members are smaller than a few of these
_SCAN = 1 << 20
_OVERLAP = 512  # compressed bytes that are enough to tell what a member starts with


class Stream(Protocol):
    """Bytes in order. `verified`: how many from the first are known to be as written. `damage`: why it ended early.

    heads: (position in the stream, offset in the file) of what was read and starts like a record of its own, where
    the file's own structure says so; the first one is where the stream begins.
    """

    has_members: ClassVar[bool]
    damage: str
    damaged_at: int
    verified: int
    heads: deque[tuple[int, int]]

    def read(self, count: int) -> bytes:
        """Up to `count` bytes, of one member; b"" at the end, be it the file's or where damage begins."""

    def peek(self, position: int, count: int) -> bytes | None:
        """The bytes at a place far ahead; None where only reading up to it can tell."""

    def skip_to(self, position: int) -> None:
        """The next `read` starts there; only where `peek` answers."""

    def place(self, position: int) -> tuple[int, int]:
        """Where in the file `position` lies: (an offset in it, how far into what stands there)."""

    def twin(self) -> "Stream":
        """Another stream that goes on from the same place, whatever is read from this one."""

    def give_up(self) -> None:
        """Ends here, as damaged: what follows in this member is not worth its time."""


class Plain:
    """A file as it is, from `offset` on."""

    has_members: ClassVar[bool] = False

    def __init__(self, file: Window, offset: int) -> None:
        self._file, self._offset = file, offset
        self.damage, self.damaged_at, self.verified = "", 0, 0
        self.heads = deque([(0, offset)])

    def read(self, count: int) -> bytes:
        data = self._file.read(self._offset + self.verified, count)
        self.verified += len(data)
        return data

    def peek(self, position: int, count: int) -> bytes | None:
        return self._file.glance(self._offset + position, count)

    def skip_to(self, position: int) -> None:
        self.verified = min(position, self._file.size - self._offset)

    def place(self, position: int) -> tuple[int, int]:
        return self._offset + position, 0

    def twin(self) -> "Plain":
        return copy.copy(self)

    def give_up(self) -> None:
        self.damage, self.damaged_at = "damaged_record", self._offset + self.verified


class Gunzip:
    """The content of the gzip members from `offset` on, one after another.

    damage: "truncated_file" when the file ends inside a member, "damaged_record" when a member is not as written or
    something else than a member follows one. `damaged_at` is then the file offset of that member or thing, `reached`
    where the reading of it ended, and `wasted` the bytes that it had given.
    """

    has_members: ClassVar[bool] = True

    def __init__(self, file: Window, offset: int) -> None:
        self._file, self.reached = file, offset
        self._inflate: zlib._Decompress | None = None
        self._given = self._member_start = 0
        self._member_at = offset
        self.heads = deque([(0, offset)])
        self.damage, self.damaged_at, self.verified = "", 0, 0

    @property
    def wasted(self) -> int:
        return self._given - self._member_start

    def read(self, count: int) -> bytes:
        data, first = b"", False
        while not self.damage:
            if self._inflate is None and not self._open_member():
                break
            data += self._step(count)
            first = self._given - len(data) == self._member_start
            # The first bytes of a member tell whether a record starts there.
            if data and (self._inflate is None or not first or len(data) >= len(VERSION)):
                break
        if first and data.startswith(VERSION):
            if self.heads[-1][0] == self._member_start:
                self.heads.pop()
            self.heads.append((self._member_start, self._member_at))
        return data

    def _step(self, count: int) -> bytes:
        inflate, data = self._inflate, b""
        assert inflate is not None
        fed = self._file.read(self.reached, _FEED)
        try:
            data = inflate.decompress(fed, count)
        except zlib.error:  # a broken code, or a checksum that does not match
            self._stop("damaged_record", self._member_at)
            return b""
        self._given += len(data)
        # At the end both may hold the same bytes (a quirk of zlib objects that were held back before).
        self.reached += len(fed) - len(inflate.unused_data if inflate.eof else inflate.unconsumed_tail)
        if inflate.eof:
            self._inflate, self.verified = None, self._given
        elif not fed and not data:
            self._stop("truncated_file", self._member_at)
        return data

    def _open_member(self) -> bool:
        head = self._file.read(self.reached, len(MAGIC))
        if not head:
            return False
        self._member_start, self._member_at = self._given, self.reached
        if len(head) < len(MAGIC) and MAGIC.startswith(head):
            self._stop("truncated_file", self.reached)
        elif head == MAGIC:
            self._inflate = zlib.decompressobj(wbits=31)
            return True
        elif self._only_zeros():
            self.reached = self._file.size
        else:
            self._stop("damaged_record", self.reached)
        return False

    def _only_zeros(self) -> bool:
        """Some writers pad the end of a file with zeros."""
        places = range(self.reached, self._file.size, _SCAN)
        return not any(self._file.read(at, _SCAN).strip(b"\0") for at in places)

    def _stop(self, damage: str, at: int) -> None:
        self.damage, self.damaged_at = damage, at

    def peek(self, position: int, count: int) -> bytes | None:
        return None

    def skip_to(self, position: int) -> None:
        raise NotImplementedError("gzip has no places")

    def place(self, position: int) -> tuple[int, int]:
        if position >= self._member_start:
            return self._member_at, position - self._member_start
        start, offset = next((head for head in reversed(self.heads) if head[0] <= position), self.heads[0])
        return offset, position - start

    def twin(self) -> "Gunzip":
        other = copy.copy(self)
        other._inflate = self._inflate and self._inflate.copy()
        other.heads = deque(self.heads)
        return other

    def give_up(self) -> None:
        self._stop("damaged_record", self.reached)


def next_member(file: Window, offset: int, start: bytes, end: int | None = None) -> int:
    """The offset of the first gzip member in [offset, end) whose content begins with `start`; else `end`, by default
    the file's size."""
    end = file.size if end is None else min(end, file.size)
    for at in range(offset, end, _SCAN):
        block = file.read(at, _SCAN + _OVERLAP)
        for match in _MEMBER.finditer(block, 0, min(len(block), _SCAN + len(MAGIC), end - at + len(MAGIC))):
            try:
                some = block[match.start() : match.start() + _OVERLAP]
                head = zlib.decompressobj(wbits=31).decompress(some, len(start))
            except zlib.error:
                continue
            if head == start:
                return min(at + match.start(), end)
    return end
