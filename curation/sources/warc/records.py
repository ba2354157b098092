"""The records of a WARC file, plain, gzip or zstd, one after another, with damage told and stepped over.

A record is passed on when its member's checksum was right (a zstd frame may have none), or its own digest is (or, in a
file cut short, when it is complete; or, in a plain file, when the next record follows where it should). A record may
share its member with others or run over several, but not over a member that starts with a record: then its length is a
lie. After damage reading goes on at the next record, however far the lie would have led.
"""

from collections import deque
from collections.abc import Generator
from itertools import islice
from typing import NamedTuple

from curation.sources.warc.digests import digest_matches
from curation.sources.warc.framing import DOUBTS, Framing, Gap, Layout, Record
from curation.sources.warc.lookahead import AGAIN_BYTES, LINE_ENDS, RECORD, RECORD_BYTES, Lookahead
from curation.sources.warc.members import VERSION, Members, Stream
from curation.sources.warc.opened import Opened, no_warc
from curation.sources.warc.unzstd import Unzstd, lacks_dictionary
from pipeline.log import get_logger
from pipeline.storage import shown
from pipeline.storage.window import Window

_HELD_BYTES = 64 << 20  # of records waiting for the end of their gzip member
_WASTED_BYTES = 4 << 30  # read again in vain before overlapping members are passed by: some 10 s of a file
_FRESH_BYTES = 256 << 20  # of a file, after which the bounds on reading in vain begin anew
STEP_BYTES = 64 << 10
"""Ranges of a file start at multiples of it. Part of what is read from damaged files, so another one is another
`version` of the source."""
_SCAN_BYTES = 1 << 20

__all__ = ["Gap", "Record", "State", "check_whole", "guessed_state", "read_range", "read_records"]


class State(NamedTuple):
    """All that reading on from a place depends on, but for the file: the offset, how the file was written as far as was
    seen (`Layout`), and what is left of the bounds on reading in vain."""

    offset: int = 0
    alone: int = 0
    shared: int = 0
    last_at_head: int = 0
    doubts: int = DOUBTS
    again: int = AGAIN_BYTES
    far: int = 0  # furthest offset that a damaged member was read to, where that is ahead
    patience: int = _WASTED_BYTES
    dictionary: int = 0  # offset of the zstd dictionary that counts

    def moved(self, offset: int, layout: Layout, **bounds: int) -> "State":
        """Further on. What cannot matter any more is left out, so that states which read on alike are equal."""
        shared = layout.shared
        seen = {"alone": int(layout.alone and not shared), "shared": int(shared)}
        seen["last_at_head"] = int(layout.last_at_head and not shared)
        fresh = offset // _FRESH_BYTES != self.offset // _FRESH_BYTES
        bounds = {"dictionary": bounds["dictionary"]} if fresh else bounds
        state = State(offset, **seen, **bounds) if fresh else self._replace(offset=offset, **seen, **bounds)
        return state if state.far > offset else state._replace(far=0)


def read_records(path: str, block_bytes: int) -> Generator[Record | Gap, None, None]:
    """All records and gaps in file order. Blocks over `block_bytes` are passed over, their records keep their headers.

    Raises DataError naming the file when it starts like no WARC, or holds no record at all.
    """
    records = gaps = 0
    for item in read_range(path, block_bytes, State(), None):
        records += isinstance(item, Record)
        gaps += isinstance(item, Gap)
        yield item
    check_whole(path, records, gaps)


def read_range(path: str, block_bytes: int, state: State, stop: int | None) -> Generator[Record | Gap, None, State]:
    """Records and gaps from `state` on; ends at, and returns, the first state at or behind `stop` (None: the end of the
    file) that reading comes by. Reading on from there gives what would have followed, whatever the stops.

    Such states are: where a sound record follows another at the start of a gzip member (or anywhere in a plain file),
    the first one behind every multiple of STEP_BYTES; where reading goes on behind damage; and the end.
    """
    opened = Opened(path)
    stop = opened.file.size if stop is None else min(stop, opened.file.size)
    while state.offset < stop:
        state = yield from _stretch(opened, block_bytes, state)
    return state


def guessed_state(path: str, start: int, stop: int) -> State | None:
    """The state in [start, stop) that a reading from the front probably comes by; for sure where `start` is 0. None
    when no record seems to start there: in a gzip stream that holds many records, say."""
    if start == 0:
        return State()
    opened = Opened(path)
    file = opened.file
    if opened.packed:
        at = opened.next_member(start, stop, dictionary=0)
        if at >= min(stop, file.size):
            return None
        return State(at, shared=1) if _is_shared(opened, at) else State(at, alone=1, last_at_head=1)
    for block_at in range(start, min(stop, file.size), _SCAN_BYTES):
        first = max(0, block_at - len(LINE_ENDS))
        block = file.read(first, _SCAN_BYTES + len(LINE_ENDS) + RECORD_BYTES)
        found = block.find(LINE_ENDS + VERSION)
        while found >= 0:
            at = first + found + len(LINE_ENDS)
            if at >= min(stop, block_at + _SCAN_BYTES):
                break
            if RECORD.match(block, at - first):
                return State(at, shared=1)
            found = block.find(LINE_ENDS + VERSION, found + 1)
    return None


def _is_shared(opened: Opened, at: int) -> bool:
    """Whether the member at `at` seems to hold more than one record."""
    layout = Layout(alone=True, last_at_head=True)
    for _ in islice(Framing(Lookahead(opened.stream(at, 0)), 0, layout, opened.file.size, DOUBTS).records(), 2):
        pass
    return layout.shared


def check_whole(path: str, records: int, gaps: int | bool) -> None:
    """Raises DataError when the whole file held no record, nor even began like one. Of one that did, what was lost is
    counted, and here told: one file that was cut or made to deceive ends no crawl."""
    if records:
        return
    if gaps and _begins(path):
        get_logger(__name__).warning("%s: holds no complete WARC record; what is lost of it is counted", shown(path))
        return
    if lacks_dictionary(Window(path)):
        raise no_warc(path, "its frames need a zstd dictionary, and it does not begin with one")
    raise no_warc(path, "holds no complete WARC record" if gaps else "holds no WARC record")


def _begins(path: str) -> bool:
    ahead = Lookahead(Opened(path).stream(0, 0))
    ahead.fill(RECORD_BYTES)
    return RECORD.match(ahead.content(0, min(ahead.end, RECORD_BYTES))) is not None


def _stretch(opened: Opened, block_bytes: int, state: State) -> Generator[Record | Gap, None, State]:
    """From one state to the next."""
    file = opened.file
    ahead = Lookahead(opened.stream(state.offset, state.dictionary), state.again)
    layout = Layout(bool(state.alone), bool(state.shared), bool(state.last_at_head))
    until = (state.offset // STEP_BYTES + 1) * STEP_BYTES
    framing = Framing(ahead, block_bytes, layout, until, state.doubts)
    lost = yield from _trusted(ahead, framing)
    if framing.left_at is not None:
        words = _dictionary(ahead.stream, framing.left_at)
        return state.moved(framing.left_at, layout, doubts=framing.doubts, again=ahead.again, dictionary=words)
    damage, gap = ahead.stream.damage, framing.open
    if not damage and gap is None:
        return State(file.size)
    offset, far, patience = _behind(opened, ahead.stream, state) if damage else (file.size, 0, 0)
    if gap is None:
        gap = Gap(damage, ahead.stream.damaged_at, 0, max(1, lost))
    else:
        gap.records += lost
    cut = not opened.packed and gap.reason == "damaged_record"  # nothing that is whole follows: the file was cut
    gap.reason = damage or ("truncated_file" if cut else gap.reason)
    gap.skipped = offset - gap.offset
    yield gap
    if offset >= file.size:
        return State(file.size)
    words = _dictionary(ahead.stream, offset)
    more = {"far": far, "patience": patience, "dictionary": words}
    return state.moved(offset, layout, doubts=DOUBTS, again=AGAIN_BYTES, **more)


def _dictionary(stream: Stream, offset: int) -> int:
    return stream.dictionary_at(offset) if isinstance(stream, Unzstd) else 0


def _behind(opened: Opened, stream: Stream, state: State) -> tuple[int, int, int]:
    """Where the next undamaged member is; far and patience then. Members that overlap are tried while patience lasts:
    without an end to it, a file of members inside members would be read as many times as it has bytes."""
    size = opened.file.size
    if not isinstance(stream, Members):
        return size, 0, 0
    at, patience = stream.damaged_at, state.patience
    if at < state.far:
        patience -= max(stream.wasted, stream.reached - at)
    far = max(state.far, stream.reached)
    start = at + 1 if patience >= 0 else max(at + 1, far)
    return opened.next_member(start, size, _dictionary(stream, at), is_lost=True), far, patience


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
