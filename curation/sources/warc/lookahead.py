"""The next bytes of a stream of records: looked at ahead, taken, passed over, searched for the next record.

Every search and every look remembers how far it came, so that a file of nothing but lies costs time linear in its size.
Positions count from the first byte of the stream.
"""

import re

from curation.sources.warc.members import VERSION, Stream

HEADER_BYTES = 64 << 10
_READ = 64 << 10
RECORD = re.compile(rb"WARC/[01]\.[0-9]{1,3}\r\n[A-Za-z][A-Za-z0-9-]*+:")
RECORD_BYTES = 256  # more than that pattern may take
LINE_ENDS = b"\r\n\r\n"
_PASSED_BYTES = 1 << 30  # passed over in one go before a gzip member is given up that has swollen
AGAIN_BYTES = 1 << 30  # passed over twice, in all of a stretch, where a record lied about its length


class Lookahead:
    """position: of the next byte. What is before it is gone; ahead of it stands what `fill` asked for."""

    def __init__(self, stream: Stream, again: int = AGAIN_BYTES) -> None:
        self.stream = stream
        self.position = 0
        self._bytes, self._first = bytearray(), 0  # _first: position of the first byte held
        self._head_end = 0  # no header ends between the position it was looked for from and this one
        self.again = again  # bytes that may still be passed over twice

    @property
    def end(self) -> int:
        """The position behind the last byte held."""
        return self._first + len(self._bytes)

    def content(self, start: int, end: int) -> bytes:
        return bytes(memoryview(self._bytes)[start - self._first : end - self._first])

    def fill(self, end: int, within: int | None = None) -> bool:
        """Holds the bytes up to `end` if the stream has them; stops where a record starts behind `within`."""
        while self.end < end:
            if within is not None and self.stream.heads[-1][0] > within:
                return self.end >= end
            if not self._more(end - self.end):
                return False
        return True

    def _more(self, count: int) -> bool:
        data = self.stream.read(max(_READ, count))
        self._bytes += data
        return bool(data)

    def go_to(self, position: int) -> None:
        """Lets go of what is before `position`, which is held (or is where the held bytes end)."""
        self.position = position
        gone = position - self._first
        if gone >= _READ and 2 * gone >= len(self._bytes):
            del self._bytes[:gone]
            self._first = position
        heads = self.stream.heads
        while len(heads) > 1 and heads[1][0] <= position:
            heads.popleft()

    def head_within(self, start: int, end: int) -> int | None:
        """The first place behind `start` and before `end` where the file's own structure says that a record starts."""
        return next((position for position, _ in self.stream.heads if start < position < end), None)

    def starts_anew(self, position: int, offset: int) -> bool:
        """Whether a stream opened at `offset` of the file gives what this one gives from `position` on."""
        return not self.stream.has_members or self.stream.heads[0] == (position, offset)

    def skip_line_ends(self) -> bool:
        """Goes to the next byte that is no line end; False at the end of the stream."""
        while self.fill(self.position + 1):
            held = self.content(self.position, min(self.end, self.position + _READ))
            rest = held.lstrip(b"\r\n")
            self.go_to(self.position + len(held) - len(rest))
            if rest:
                return True
        return False

    def header_end(self) -> int | None:
        """Where the empty line after the header at `position` ends; None when there is none within the cap."""
        at = max(self.position, self._head_end)
        while True:
            found = self._bytes.find(LINE_ENDS, at - self._first)
            if found >= 0:
                self._head_end = self._first + found
                return self._head_end + len(LINE_ENDS) if self._head_end <= self.position + HEADER_BYTES else None
            self._head_end = at = max(self.position, self.end - len(LINE_ENDS) + 1)
            if self.end > self.position + HEADER_BYTES or not self.fill(self.end + 1, self.position):
                return None

    def next_record(self, start: int, end: int) -> int | None:
        """The first place in [start, end) of the bytes held where the header of a record seems to start."""
        match = RECORD.search(self._bytes, start - self._first, min(end, self.end) - self._first + RECORD_BYTES)
        return self._first + match.start() if match and self._first + match.start() < end else None

    def at_boundary(self, end: int, rest: bytes | None = None) -> bool | None:
        """Whether a record may end at `end`: True before line ends and a record (or the end), None
        when two line ends are there and then something else; False otherwise."""
        if rest is None:
            self.fill(end + len(LINE_ENDS) + len(VERSION))
            rest = self.content(end, min(self.end, end + len(LINE_ENDS) + len(VERSION)))
        following = rest.lstrip(b"\r\n")
        parted = following != rest or self.head_within(end - 1, end + 1) is not None
        if VERSION.startswith(following[: len(VERSION)]) and (parted or not rest):
            return True
        return None if rest.startswith(LINE_ENDS) else False

    def pass_over(self, end: int) -> bool:
        """Goes to `end`, where a record ends, without holding what is before it. When none can end there, False, and
        the position is one from which `seek_record` finds all that it would have found before."""
        if end > self.end and self.stream.peek(end - 1, 1) is not None:
            return self._jump(end)
        start, passed = self.position, 0
        twin: Lookahead | None = None
        while True:
            known = min(end, self.end)
            if twin is None and (found := self.next_record(self.position, known)) is not None:
                if self.again < 0:  # it has lied too often to be believed against what is seen
                    self.go_to(found)
                    return False
                twin = self._twin(found)
            passed += known - self.position
            self.go_to(known if known == end else max(self.position, known - RECORD_BYTES))
            if passed > _PASSED_BYTES:
                self.stream.give_up_swollen()
            if known == end or not self.fill(self.end + 1, start):
                break
        if self.position == end and self.head_within(start, end) is None and self.at_boundary(end):
            return True
        if twin is not None:
            self.again -= self.end - twin.end + twin.stream.repeats
            self.stream, self.position, self._head_end = twin.stream, twin.position, 0
            self._bytes, self._first = twin._bytes, twin._first
        return False

    def _jump(self, end: int) -> bool:
        rest = self.stream.peek(end - 1, 1 + len(LINE_ENDS) + len(VERSION))
        if not rest or not self.at_boundary(end, rest[1:]):
            return False
        self.stream.skip_to(end)
        self._bytes, self._first = bytearray(), end
        self.go_to(end)
        return True

    def _twin(self, position: int) -> "Lookahead":
        """The state to go back to, should a length turn out to be a lie."""
        other = Lookahead(self.stream.twin())
        other.position = other._first = position
        other._bytes = bytearray(self.content(position, self.end))
        return other

    def seek_record(self, heads: bool) -> bool:
        """Goes to the next place that seems to be the start of a record, with `heads` only to one where a gzip member
        starts; False when no verified byte is left."""
        passed = 0
        while True:
            start = self.position
            found = self.head_within(start - 1, self.limit) if heads else self.next_record(start, self.limit)
            if found is not None:
                self.go_to(found)
                return True
            if passed > _PASSED_BYTES:
                self.stream.give_up_swollen()
            self.go_to(max(start, self.end - RECORD_BYTES))
            before = self.end
            if not self.fill(before + 1):
                self.go_to(self.end)
                return False
            passed += self.end - before

    @property
    def limit(self) -> int:
        """The position up to which bytes are worth a look: those of a damaged member are not."""
        return min(self.end, self.stream.verified) if self.stream.damage == "damaged_record" else self.end
