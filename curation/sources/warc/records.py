"""The records of a WARC file, plain or gzip, one after another, with damage told and stepped over.

A record is passed on when its gzip member's checksum was right, or its own digest is (or, in a file cut short, when it
is complete; or, in a plain file, when the next record follows where it should). A record may share its member with
others or run over several, but not over a member that starts with a record: then its length is a lie. After damage
reading goes on at the next record, however far the lie would have led.
"""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from curation.sources.warc.digests import digest_matches
from curation.sources.warc.framing import Framing, Gap, Layout, Record
from curation.sources.warc.gunzip import MAGIC, VERSION, Gunzip, Plain, Stream, next_member
from curation.sources.warc.lookahead import Lookahead
from pipeline.errors import DataError
from pipeline.storage.window import Window

_HELD_BYTES = 64 << 20  # of records waiting for the end of their gzip member
_WASTED_BYTES = 4 << 30  # read again in vain before overlapping members are passed by: some 10 s of a file
_KNOWN = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}

__all__ = ["Gap", "Record", "read_records"]


def read_records(path: str, block_bytes: int) -> Iterator[Record | Gap]:
    """All records and gaps in file order. Blocks over `block_bytes` are passed over, their records keep their headers.

    Raises DataError naming the file when it starts like neither gzip nor WARC, or holds no record at all.
    """
    file = Window(path)
    head = file.read(0, 5)
    if not (head.startswith(MAGIC) or head == VERSION):
        packed = next((name for magic, name in _KNOWN.items() if head.startswith(magic)), "")
        raise _no_warc(
            file, f"is compressed with {packed}" if packed else f"starts with {head!r}" if head else "is empty"
        )
    records = gaps = 0
    for item in _whole_file(file, head.startswith(MAGIC), block_bytes):
        records += isinstance(item, Record)
        gaps += isinstance(item, Gap)
        yield item
    if not records:
        raise _no_warc(file, "holds no complete WARC record" if gaps else "holds no WARC record")


def _no_warc(file: Window, found: str) -> DataError:
    return DataError(file.where, found, "a WARC file, plain or gzip", "copy it again or take it out of `paths`")


@dataclass(slots=True)
class _Search:
    """Where the next undamaged member is looked for. Members that overlap are tried while patience lasts: without an
    end to it, a file of members inside members would be read as many times as it has bytes."""

    file: Window
    far: int = 0  # furthest offset that a damaged member was read to
    patience: int = 0

    def behind(self, stream: Stream) -> int:
        if not isinstance(stream, Gunzip):
            return self.file.size
        at = stream.damaged_at
        if at < self.far:
            self.patience -= max(stream.wasted, stream.reached - at)
        self.far = max(self.far, stream.reached)
        return next_member(self.file, at + 1 if self.patience >= 0 else max(at + 1, self.far), VERSION)


def _whole_file(file: Window, zipped: bool, block_bytes: int) -> Iterator[Record | Gap]:
    search, layout = _Search(file, patience=_WASTED_BYTES), Layout()
    offset = 0
    while offset < file.size:
        ahead = Lookahead(Gunzip(file, offset) if zipped else Plain(file, offset))
        framing = Framing(ahead, block_bytes, layout)
        lost = yield from _trusted(ahead, framing)
        damage, gap = ahead.stream.damage, framing.open
        if not damage and gap is None:
            return
        offset = search.behind(ahead.stream) if damage else file.size
        if gap is None:
            gap = Gap(damage, ahead.stream.damaged_at, 0, max(1, lost))
        else:
            gap.records += lost
        cut = not zipped and gap.reason == "damaged_record"  # nothing that is whole follows: the file was cut
        gap.reason = damage or ("truncated_file" if cut else gap.reason)
        gap.skipped = offset - gap.offset
        yield gap


def _trusted(ahead: Lookahead, framing: Framing) -> Generator[Record | Gap, None, int]:
    """Gives the records that are as they were written; returns how many were not."""
    held: deque[Record | Gap] = deque()
    held_bytes = 0
    for item in framing.records():
        held.append(item)
        held_bytes += _weight(item)
        while held and (_end(held[0]) <= ahead.stream.verified or held_bytes > _HELD_BYTES):
            held_bytes -= _weight(held[0])
            yield held.popleft()
    lost = 0
    for item in held:
        if isinstance(item, Gap) or _end(item) <= ahead.stream.verified or _is_right(item, ahead.stream.damage):
            yield item
        else:
            lost += 1
    return lost


def _is_right(record: Record, damage: str) -> bool:
    """Whether a record is used though the checksum of its member was not seen to be right."""
    if damage != "damaged_record":
        return True
    return (
        record.block is not None and digest_matches(record.headers.get("warc-block-digest", ""), [record.block]) is True
    )


def _end(item: Record | Gap) -> int:
    return item.end if isinstance(item, Record) else 0


def _weight(item: Record | Gap) -> int:
    return len(item.block or b"") if isinstance(item, Record) else 0
