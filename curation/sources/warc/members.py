"""The bytes of a file as a stream that knows which of them were verified, and where to go on after damage.

Packed files are read member by member (gzip's word; zstd says frame): gunzip.py and unzstd.py.
"""

import copy
from collections import deque
from typing import ClassVar, Protocol, Self

from pipeline.storage.window import Window

VERSION = b"WARC/"
_SCAN = 1 << 20
_SWOLLEN = 100  # times what lies in the file: what pages, texts and tables are packed to is a tenth of that


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
    repeats: int  # bytes that are unpacked again before the first `read` gives any

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

    def give_up_swollen(self) -> None:
        """Ends here, as damaged, where this member has given far more bytes than the file holds of it: what follows in
        it is not worth its time. A large record that is packed as large ones are does not end for being large."""


class Plain:
    """A file as it is, from `offset` on."""

    has_members: ClassVar[bool] = False
    repeats = 0

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

    def give_up_swollen(self) -> None:
        """Its bytes are those of the file."""


class Members:
    """The content of the members from `offset` on, one after another. Subclasses open a member and take steps in it.

    damage: "truncated_file" when the file ends inside a member, "damaged_record" when a member is not as written or
    something else than a member follows one. `damaged_at` is then the file offset of that member or thing, `reached`
    where the reading of it ended, and `wasted` the bytes that it had given.
    """

    has_members: ClassVar[bool] = True
    magic: ClassVar[bytes]
    repeats = 0

    def __init__(self, file: Window, offset: int) -> None:
        self._file, self.reached = file, offset
        self._given = self._member_start = 0
        self._member_at = offset
        self.heads = deque([(0, offset)])
        self.damage, self.damaged_at, self.verified = "", 0, 0

    @property
    def wasted(self) -> int:
        return self._given - self._member_start

    def _is_open(self) -> bool:
        """Whether reading is inside a member."""
        raise NotImplementedError

    def _open(self, head: bytes) -> bool:
        """Enters the member at `reached`, which starts with `head`; False when it is none."""
        raise NotImplementedError

    def _step(self, count: int) -> bytes:
        """About `count` bytes more of the member, or none; moves `_given`, `reached`, and at its end `verified`."""
        raise NotImplementedError

    def read(self, count: int) -> bytes:
        data, first = b"", False
        while not self.damage:
            if not self._is_open() and not self._open_member():
                break
            data += self._step(count)
            first = self._given - len(data) == self._member_start
            # The first bytes of a member tell whether a record starts there.
            if data and (not self._is_open() or not first or len(data) >= len(VERSION)):
                break
        if first and data.startswith(VERSION):
            if self.heads[-1][0] == self._member_start:
                self.heads.pop()
            self.heads.append((self._member_start, self._member_at))
        return data

    def _open_member(self) -> bool:
        head = self._file.read(self.reached, len(self.magic))
        if not head:
            return False
        self._member_start, self._member_at = self._given, self.reached
        if len(head) < len(self.magic) and self.magic.startswith(head):
            self._stop("truncated_file", self.reached)
        elif self._open(head):
            return True
        elif self.damage:
            pass
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
        raise NotImplementedError("a packed file has no places")

    def place(self, position: int) -> tuple[int, int]:
        if position >= self._member_start:
            return self._member_at, position - self._member_start
        start, offset = next((head for head in reversed(self.heads) if head[0] <= position), self.heads[0])
        return offset, position - start

    def twin(self) -> Self:
        other = copy.copy(self)
        other.heads = deque(self.heads)
        return other

    def give_up_swollen(self) -> None:
        if self.wasted > _SWOLLEN * (self.reached - self._member_at):
            self.give_up()

    def give_up(self) -> None:
        self._stop("damaged_record", self.reached)
