"""Gzip read as members: a stream that knows which of its bytes were verified, and where to go on after damage.

Python's, warcio's and FastWARC's readers take a cut file as complete, or lose everything behind one flipped bit.
"""

import re
import zlib
from collections import deque
from typing import Protocol

from pipeline.storage.window import Window

MAGIC = b"\x1f\x8b\x08"
_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")  # the three high flag bits are reserved
_FEED = 16 << 10  # compressed bytes given to zlib at once: most members are smaller than a few of these
_SCAN = 1 << 20
_OVERLAP = 512  # compressed bytes that are enough to tell what a member starts with


class Stream(Protocol):
    """Bytes in order. `verified`: how many from the first are known to be as written. `damage`: why it ended early."""

    damage: str
    verified: int

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; b"" at the end, be it the file's or where damage begins."""

    def place_of(self, position: int) -> int:
        """The offset in the file of the member (or byte) that holds `position` of this stream."""


class Plain:
    """A file as it is, from `offset` on."""

    def __init__(self, file: Window, offset: int) -> None:
        self._file, self._offset = file, offset
        self.damage, self.verified = "", 0

    def read(self, count: int) -> bytes:
        data = self._file.read(self._offset + self.verified, count)
        self.verified += len(data)
        return data

    def place_of(self, position: int) -> int:
        return self._offset + position


class Gunzip:
    """The content of the gzip members from `offset` on, one after another.

    damage: "truncated_file" when the file ends inside a member, "damaged_record" when a member is not as written or
    something else than a member follows one. `damaged_at` is then the file offset of that place.
    """

    def __init__(self, file: Window, offset: int) -> None:
        self._file, self._at = file, offset
        self._inflate: zlib._Decompress | None = None
        self._given = 0
        # (position in this stream, offset in the file) of recent members: a record is looked up while it is read
        self._members: deque[tuple[int, int]] = deque(maxlen=64)
        self.damage, self.damaged_at, self.verified = "", 0, 0

    def read(self, count: int) -> bytes:
        while not self.damage:
            if self._inflate is None and not self._open_member():
                break
            data = self._step(count)
            if data:
                self._given += len(data)
                return data
        return b""

    def _step(self, count: int) -> bytes:
        inflate, data = self._inflate, b""
        assert inflate is not None
        fed = self._file.read(self._at, _FEED)
        try:
            data = inflate.decompress(fed, count)
        except zlib.error:  # a broken code, or a checksum that does not match
            self._stop("damaged_record")
            return b""
        # At the end both may hold the same bytes (a quirk of zlib objects that were held back before).
        self._at += len(fed) - len(inflate.unused_data if inflate.eof else inflate.unconsumed_tail)
        if inflate.eof:
            self._inflate, self.verified = None, self._given + len(data)
        elif not fed and not data:
            self._stop("truncated_file")
        return data

    def _open_member(self) -> bool:
        head = self._file.read(self._at, len(MAGIC))
        if not head:
            return False
        if len(head) < len(MAGIC) and MAGIC.startswith(head):
            self._stop("truncated_file", self._at)
        elif head == MAGIC:
            self._members.append((self._given, self._at))
            self._inflate = zlib.decompressobj(wbits=31)
            return True
        elif self._only_zeros():
            self._at = self._file.size
        else:
            self._stop("damaged_record", self._at)
        return False

    def _only_zeros(self) -> bool:
        """Some writers pad the end of a file with zeros."""
        return not any(any(self._file.read(at, _SCAN)) for at in range(self._at, self._file.size, _SCAN))

    def _stop(self, damage: str, at: int | None = None) -> None:
        self.damage, self.damaged_at = damage, self._members[-1][1] if at is None else at

    def place_of(self, position: int) -> int:
        known = (offset for start, offset in reversed(self._members) if start <= position)
        return next(known, self._members[0][1])


def next_member(file: Window, offset: int, start: bytes) -> int:
    """The offset of the first gzip member from `offset` on whose content begins with `start`; else the file's size."""
    for at in range(offset, file.size, _SCAN):
        block = file.read(at, _SCAN + _OVERLAP)
        for match in _MEMBER.finditer(block, 0, min(len(block), _SCAN + len(MAGIC))):
            try:
                some = block[match.start() : match.start() + _OVERLAP]
                head = zlib.decompressobj(wbits=31).decompress(some, len(start))
            except zlib.error:
                continue
            if head == start:
                return at + match.start()
    return file.size
