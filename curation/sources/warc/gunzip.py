"""Gzip read as members.

Python's, warcio's and FastWARC's readers take a cut file as complete, or lose everything behind one flipped bit.
"""

import re
import zlib
from typing import ClassVar, Self

from curation.sources.warc.members import VERSION, Members
from pipeline.storage.window import Window

MAGIC = b"\x1f\x8b\x08"
_MEMBER = re.compile(rb"\x1f\x8b\x08(?=[\x00-\x1f])")  # the three high flag bits are reserved; members may overlap
_FEED = 16 << 10  # compressed bytes given to zlib at once: most members are smaller than a few of these
_SCAN = 1 << 20
_OVERLAP = 512  # compressed bytes that are enough to tell what a member starts with


class Gunzip(Members):
    """The content of gzip members."""

    magic: ClassVar[bytes] = MAGIC

    def __init__(self, file: Window, offset: int) -> None:
        super().__init__(file, offset)
        self._inflate: zlib._Decompress | None = None

    def _is_open(self) -> bool:
        return self._inflate is not None

    def _open(self, head: bytes) -> bool:
        if head == MAGIC:
            self._inflate = zlib.decompressobj(wbits=31)
        return head == MAGIC

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

    def twin(self) -> Self:
        other = super().twin()
        other._inflate = self._inflate and self._inflate.copy()
        return other


def next_member(file: Window, offset: int, end: int) -> int:
    """The offset of the first gzip member in [offset, end) whose content begins like a record; else `end`."""
    for at in range(offset, end, _SCAN):
        block = file.read(at, _SCAN + _OVERLAP)
        for match in _MEMBER.finditer(block, 0, min(len(block), _SCAN + len(MAGIC), end - at + len(MAGIC))):
            try:
                some = block[match.start() : match.start() + _OVERLAP]
                head = zlib.decompressobj(wbits=31).decompress(some, len(VERSION))
            except zlib.error:
                continue
            if head == VERSION:
                return min(at + match.start(), end)
    return end
