"""A file read in ranges, cut anywhere, gives what reading it from the front gives: damage, lies and hostile payloads
included. The reading from the front is one that never begins anew, which tests/.../test_records_damage.py judges."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.sources.warc import records
from curation.sources.warc.gunzip import Gunzip
from curation.sources.warc.members import Plain
from curation.sources.warc.records import Gap, Record, State, guessed_state, read_range, read_records
from tests.helpers.hostile_warcs import block, hostile_files
from tests.helpers.places import shared_files
from tests.helpers.warcs import http, record

CAP = 4000


def plainly(item: Record | Gap) -> tuple[Any, ...]:
    if isinstance(item, Gap):
        return item.reason, item.offset, item.skipped, item.records
    return item.offset, sorted(item.headers.items()), item.block


def drained(reading) -> tuple[list[tuple[Any, ...]], State]:
    found = []
    while True:
        try:
            found.append(plainly(next(reading)))
        except StopIteration as end:
            return found, end.value


def from_the_front(path: Path, cap: int) -> list[tuple[Any, ...]]:
    """Without a state on the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "STEP_BYTES", 1 << 50)
        patch.setattr(records, "_FRESH_BYTES", 1 << 50)
        return drained(read_range(str(path), cap, State(), None))[0]


def in_ranges(path: Path, cap: int, stops: Sequence[int]) -> list[tuple[Any, ...]]:
    state, found = State(), []
    for stop in [*stops, path.stat().st_size]:
        # As it comes back from the state of a part.
        more, state = drained(read_range(str(path), cap, State(*map(int, state)), stop))
        assert state.offset >= stop or state.offset == path.stat().st_size
        found += more
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=hostile_files(), step=st.sampled_from([32, 200, 1000]), fresh=st.sampled_from([500, 1 << 28]), more=st.data()
)
def test_any_cut_of_any_file_gives_the_same_records_and_the_same_damage(tmp_path_factory, data, step, fresh, more):
    path = tmp_path_factory.mktemp("cut") / "a.warc"
    path.write_bytes(data)
    whole = from_the_front(path, CAP)
    stops = sorted(more.draw(st.sets(st.integers(1, len(data)), max_size=6)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "STEP_BYTES", step)
        patch.setattr(records, "_FRESH_BYTES", fresh)
        for cut in (stops, range(step, len(data), step)):
            assert in_ranges(path, CAP, cut) == whole
            bounds = [0, *cut, len(data)]
            for start, stop in zip(bounds, bounds[1:], strict=False):
                guess = guessed_state(str(path), start, stop)
                assert guess is None or start <= guess.offset < stop
                assert start or guess == State()


@pytest.mark.parametrize("pack", ["plain", "alone", "three"])
def test_where_nothing_is_damaged_every_range_begins_where_it_seems_to(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(records, "STEP_BYTES", 700)
    pieces = [record(f"http://e.org/{at}", block(at, 40 * at % 900, "")) for at in range(120)]
    path = tmp_path / "a.warc"
    if pack != "plain":
        each = 1 if pack == "alone" else 3
        members = [b"".join(pieces[at : at + each]) for at in range(0, len(pieces), each)]
        pieces = [gzip.compress(one, mtime=0) for one in members]
    path.write_bytes(b"".join(pieces))
    state, size, seen = State(), path.stat().st_size, 0
    for stop in [*range(2100, size, 2100), size]:
        state, start = drained(read_range(str(path), CAP, state, stop))[1], stop
        if state.offset < size:
            assert guessed_state(str(path), start, start + 2100) == state
            seen += 1
    assert seen > 10


def test_what_is_left_of_patience_goes_along_and_is_renewed_as_the_file_goes_on(tmp_path, monkeypatch):
    """Else a hostile file would cost as much for every step as it may for the whole."""
    doubtful = record("http://e.org/0", block(0, 10, "record")) + b"garbage\r\n\r\n"
    good = [record(f"http://e.org/{at}", http(bytes(900))) for at in range(1, 12)]
    path = tmp_path / "a.warc"
    path.write_bytes(good[0] + doubtful * 3 + b"".join(good))
    monkeypatch.setattr(records, "STEP_BYTES", 500)
    after = len(good[0]) + 3 * len(doubtful)
    states = [drained(read_range(str(path), CAP, State(), at))[1] for at in (1, after + 1, after + 3000)]
    assert [state.doubts for state in states] == [64, 61, 61]
    monkeypatch.setattr(records, "_FRESH_BYTES", after + 2000)
    assert drained(read_range(str(path), CAP, State(), after + 3000))[1].doubts == 64


def test_nothing_seems_to_begin_inside_one_stream_of_many_records(tmp_path):
    path = tmp_path / "a.warc.gz"
    noise = [bytes((at * n * 37) % 251 for n in range(3000)) for at in range(100)]
    path.write_bytes(gzip.compress(b"".join(record(f"http://e.org/{at}", http(one)) for at, one in enumerate(noise))))
    size = path.stat().st_size
    assert size > 20_000
    assert [guessed_state(str(path), at, at + 5000) for at in range(5000, size, 5000)] == [None] * len(
        range(5000, size, 5000)
    )
    found, state = drained(read_range(str(path), CAP, State(), 5000))
    assert len(found) == 100 and state.offset == size


def test_a_range_costs_its_own_bytes(tmp_path, monkeypatch):
    """Also where looking for its start finds nothing, and also behind its end."""
    noise = bytes((n * n * 37) % 251 for n in range(30_000))
    path = tmp_path / "a.warc.gz"
    pieces = [record(f"http://e.org/{at}", http(noise + bytes([at]))) for at in range(200)]
    path.write_bytes(b"".join(gzip.compress(one, 1, mtime=0) for one in pieces))
    size, given = path.stat().st_size, [0]
    for kind in (Gunzip, Plain):

        def counting(self, count, read=kind.read):
            data = read(self, count)
            given[0] += len(data)
            return data

        monkeypatch.setattr(kind, "read", counting)
    unpacked = sum(map(len, pieces))
    for parts in (1, 4):
        given[0] = 0
        stops = [size * at // parts for at in range(1, parts)]
        assert len(in_ranges(path, 1 << 20, stops)) == 200
        # Reading begins anew every STEP_BYTES; what was looked at ahead is looked at again.
        assert given[0] < unpacked + (size // records.STEP_BYTES + parts + 1) * (64 << 10)


@pytest.mark.parametrize("size", [64 << 10, 1 << 20])
def test_the_real_crawl_in_ranges_is_the_real_crawl(size):
    path = shared_files("crawl/*.warc.gz")[3]
    whole = [plainly(item) for item in read_records(str(path), 20 << 20)]
    assert in_ranges(path, 20 << 20, range(size, path.stat().st_size, size)) == whole
    assert whole == from_the_front(path, 20 << 20)
