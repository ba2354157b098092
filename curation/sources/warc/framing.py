"""Where a record ends: a stream of bytes cut into records, and into gaps where a record is not as it says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from curation.sources.warc.digests import digest_matches
from curation.sources.warc.lookahead import HEADER_BYTES, Lookahead
from curation.sources.warc.members import VERSION

_LENGTH = re.compile(rb"[0-9]{1,15}")
DOUBTS = 64  # digests computed in vain before no more are: a lie must not cost the hash of all that it claims


@dataclass(slots=True)
class Record:
    """headers: lower-case name -> value (of a repeated one the first); block: None when it is over the size cap."""

    headers: dict[str, str]
    block: bytes | None
    start: int  # position in the decompressed stream
    end: int
    offset: int  # in the file, of the gzip member (or byte) that holds its start


@dataclass(slots=True)
class Gap:
    """Damage: `skipped` bytes from `offset` of the file on were passed over; `records` at least were lost.

    Bytes are the file's; where a gap lies inside one gzip member, they are its content's.
    """

    reason: str  # truncated_file, damaged_record, bad_warc
    offset: int
    skipped: int
    records: int = 1


class _Broken(Exception):
    """What stands at this position is no record, or not one of the length that it says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Layout:
    """How a file was written, as far as it has shown: `alone`, a gzip member held one record; `shared`, several."""

    alone: bool = False
    shared: bool = False
    last_at_head: bool = False

    def add(self, at_head: bool) -> None:
        """A sound record follows another."""
        self.shared = self.shared or not at_head
        self.alone = self.alone or at_head and self.last_at_head
        self.last_at_head = at_head

    def one_each(self, at_head: bool) -> bool:
        """Whether a record that starts as told may be taken to have its gzip member for itself."""
        return at_head and self.alone and not self.shared


class Framing:
    """Cuts what `ahead` looks at into records. `open`: the last gap, where no record follows it any more.

    Ends early at the first record that follows another and starts at `until` of the file or behind it, in a gzip member
    of its own start, so that reading can begin anew there; `left_at` is then its offset.
    """

    def __init__(self, ahead: Lookahead, block_bytes: int, layout: Layout, until: int, doubts: int) -> None:
        self._ahead, self._block_bytes, self._layout = ahead, block_bytes, layout
        self._until, self.doubts = until, doubts
        self.open: Gap | None = None
        self.left_at: int | None = None

    def records(self) -> Iterator[Record | Gap]:
        ahead, sound = self._ahead, True
        while ahead.skip_line_ends():
            start, place = ahead.position, ahead.stream.place(ahead.position)
            at_head = ahead.stream.has_members and place[1] == 0
            if sound and place[0] >= self._until and ahead.starts_anew(start, place[0]):
                self.left_at = place[0]
                return
            if sound and at_head:
                self._layout.add(at_head)
            own_member = self._layout.one_each(at_head)
            try:
                record = self._record(start, place[0], own_member)
                if sound and not at_head:
                    self._layout.add(at_head)
                sound = True
                yield record
                continue
            except _Broken as error:
                reason, sound = error.reason, False
            if ahead.position == start:
                ahead.go_to(start + 1)
            # Where each record has its own member, something like a record inside one is what a page or archive holds.
            if not ahead.seek_record(heads=self._layout.one_each(True)):
                self.open = Gap(reason, place[0], 0)
                return
            yield Gap(reason, place[0], _distance(place, ahead.stream.place(ahead.position)))

    def _record(self, start: int, offset: int, own_member: bool) -> Record:
        ahead = self._ahead
        headers, body = self._header(start)
        length = headers.get("content-length", "").encode("utf-8", "replace")
        if not _LENGTH.fullmatch(length):
            raise _Broken("bad_warc")
        size = int(length)
        end = body + size
        if size > self._block_bytes:
            ahead.go_to(body)
            if not ahead.pass_over(end):
                raise _Broken("damaged_record")
            return Record(headers, None, start, end, offset)
        if not ahead.fill(end, start) or ahead.head_within(start, end) is not None:
            raise _Broken("damaged_record")
        fits = ahead.at_boundary(end)
        if fits is None:  # garbage follows it
            fits = own_member or self._believed(headers, body, end)
        if not fits:
            raise _Broken("damaged_record")
        block = ahead.content(body, end)
        ahead.go_to(end)
        return Record(headers, block, start, end, offset)

    def _header(self, start: int) -> tuple[dict[str, str], int]:
        """The fields of the header at `start`, and where it ends."""
        ahead = self._ahead
        body = ahead.header_end()
        end = ahead.end if body is None else body
        first = ahead.content(start, min(end, start + len(VERSION)))
        if not VERSION.startswith(first):
            raise _Broken("bad_warc")
        if ahead.next_record(start + 1, end) is not None or ahead.head_within(start, end) is not None:
            raise _Broken("damaged_record")
        if body is None:
            raise _Broken("damaged_record" if end - start <= HEADER_BYTES else "bad_warc")
        return dict(reversed(header_fields(ahead.content(start, body)))), body

    def _believed(self, headers: dict[str, str], body: int, end: int) -> bool:
        """Whether a record that something else than a record follows is as long as it says: when no other record
        seems to start inside it, or when its own digest says so."""
        ahead = self._ahead
        if ahead.next_record(body, end) is None:
            return True
        if self.doubts > 0:
            self.doubts -= 1
            return digest_matches(headers.get("warc-block-digest", ""), [ahead.content(body, end)]) is True
        return False


def _distance(one: tuple[int, int], other: tuple[int, int]) -> int:
    return other[1] - one[1] if one[0] == other[0] else other[0] - one[0] + other[1]


def header_fields(head: bytes) -> list[tuple[str, str]]:
    """(lower-case name, value) of each field behind the first line; folded lines joined, lines without colon out."""
    text = head.decode("utf-8", "replace").replace("\r\n", "\n")
    if "\n " not in text and "\n\t" not in text:  # nothing is folded: the rule
        whole = [line.partition(":") for line in text.split("\n")[1:]]
        return [(name.strip().lower(), value.strip()) for name, colon, value in whole if colon]
    lines: list[list[str]] = []
    for line in text.split("\n")[1:]:
        if line[:1] in (" ", "\t") and lines:
            lines[-1].append(line.strip())
        else:
            lines.append([line])
    fields = (" ".join(pieces).partition(":") for pieces in lines)
    return [(name.strip().lower(), value.strip()) for name, colon, value in fields if colon]
