"""Follows redirects before the join, hop by hop, through files: each hop takes what was asked to where it lies.

    <output>/_work/redirects-<digest>/<hop>-<slot>.asked.pack     leads on, by the slot of the uid asked for
                                     /<hop>-<slot>.found.pack     what was found, by the slot of the uid mentioned
                                     /<hop>-<slot>.reached.pack   the uids whose stored image was found
                                     /<hop>-<slot>.lost.pack      payloads of revisits that led nowhere
                                     /<hop>-<slot>.json           counts; written last: done
                                     /originals-<slot>.pack       where captures of lost payloads lie, of a slot; .json
                                     /all-<slot>.{found,reached}.parquet, .json   of all hops, for the join
                                     /followed.json               all is done; vouches for what the join reads

A slot is some buckets that follow each other: as many as hold SLOT_ROWS redirects, which are few, so that reads are
few and large, but at most SLOT_BUCKETS, which are looked through one by one. Their number leaves no trace.

A download asks before that which revisits have their bytes in what was crawled, mentioned or not, and does the same in
a folder of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.job import Job
from curation.pool import redirects, runs
from curation.pool.redirects import ASKED, FOUND, HOPS, LOST_PAYLOADS, ORIGINALS, REACHED, Followed
from curation.pool.store import FETCHED, REDIRECTS
from curation.runner.calls import Call, Do
from curation.table import packs, parquet, uids
from pipeline import storage
from pipeline.errors import DataError

SLOT_ROWS, SLOT_BUCKETS = 200_000, 64
_FOLLOWED = "followed.json"
# What a hop gives, and the uid by which it is dealt into slots.
_TO_ORIGINALS, _AT_ORIGINALS = HOPS + 1, HOPS + 2  # in place of the hop: lost payloads asked for, and what came of it
_KEYS = {"asked": "at", "found": "origin", "reached": "uid"}
_SCHEMAS = {"asked": ASKED, "found": FOUND, "reached": REACHED}

Unit = tuple[int, int]  # hop, slot


@dataclass(frozen=True)
class Trail:
    """folder: of the files of this module; runs_folder, runs: where rows are read, and how many runs there are;
    of_revisits: every revisit is followed, through what was crawled alone, in place of the mentions."""

    folder: str
    runs_folder: str
    runs: int
    of_revisits: bool = False

    @classmethod
    def of_join(cls, job: Job) -> "Trail":
        return cls(job.redirects_folder, job.runs_folder, len(runs.groups_of(job.parts)))

    def file(self, name: str) -> str:
        return storage.join(self.folder, name)

    def images(self, some: Iterable[int], bucket: int) -> list[pa.Table]:
        """IMAGES of a bucket. What a download has had by now must not decide what it asks for."""
        tables = runs.read_bucket(self.runs_folder, some, runs.IMAGES, bucket)
        if not self.of_revisits:
            return tables
        return [t.filter(pc.invert(pc.starts_with(t.column("part").cast(pa.string()), FETCHED))) for t in tables]


def follow(
    job: Job, trail: Trail, groups: Sequence[Sequence[str]], counts: Mapping[str, Mapping[str, int]], do: Do
) -> None:
    """Follows the redirects of parts, in `groups` as they were merged into runs, unless that is done. `counts`: of the
    parts; those of which there are none are not looked through."""
    if storage.read_state(trail.file(_FOLLOWED)) is not None:
        return
    moving = [sum(counts.get(part, {}).get(REDIRECTS, 0) for part in group) for group in groups]
    slots = _slots(sum(moving), job.buckets) if sum(moving) else 0
    files: dict[str, storage.Note] = {}
    if slots:
        units = _hop_by_hop(job, trail, slots, [number for number, rows in enumerate(moving) if rows], do)
        calls = [Call(gather, (trail, at, slots, units), f"redirects, slot {at}") for at in range(slots)]
        for _, notes in do(calls, "redirects, all hops", "slots"):
            files |= notes
    storage.publish_state(trail.file(_FOLLOWED), {"slots": slots}, files)


def _hop_by_hop(job: Job, trail: Trail, slots: int, redirecting: list[int], do: Do) -> dict[str, list[Unit]]:
    """Where something was found, and where reached. `redirecting`: the runs that hold redirects at all."""
    asking = list(range(slots))
    units: dict[str, list[Unit]] = {"found": [], "reached": [], "lost": []}

    def hop_once(hop: int) -> list[int]:
        calls = [
            Call(one_slot, (trail, hop, at, slots, asking, redirecting), f"redirects, hop {hop}, slot {at}")
            for at in range(slots)
        ]
        done = {call.args[2]: state for call, state in do(calls, f"redirects, hop {hop}", "slots")}
        for kind in units:
            units[kind] += [(hop, at) for at in sorted(done) if done[at][kind]]
        return [at for at in sorted(done) if done[at]["asked"]]

    for hop in range(HOPS + 1):
        if asking:
            asking = hop_once(hop)
    if units["lost"]:
        asking = _ask_originals(trail, slots, units["lost"], do)
        if asking:
            hop_once(_AT_ORIGINALS)
    return {kind: units[kind] for kind in ("found", "reached")}


def _ask_originals(trail: Trail, slots: int, losing: list[Unit], do: Do) -> list[int]:
    """The slots in which revisits that led nowhere ask for a capture of their payload."""
    calls = [Call(find_originals, (trail, at, slots, losing), f"originals, slot {at}") for at in range(slots)]
    having = [call.args[1] for call, rows in do(calls, "revisits, originals", "slots") if rows]
    if not having:
        return []
    calls = [
        Call(ask_originals, (trail, at, slots, losing, sorted(having)), f"asked, slot {at}") for at in range(slots)
    ]
    return sorted(call.args[1] for call, rows in do(calls, "revisits, asked", "slots") if rows)


def _slots(rows: int, buckets: int) -> int:
    """A power of two of at most `buckets`."""
    return min(buckets, uids.power_of_two(max(-(-rows // SLOT_ROWS), buckets // SLOT_BUCKETS)))


def _unit(hop: int, slot: int) -> str:
    return f"{hop}-{slot:05d}"


def one_slot(
    job: Job, trail: Trail, hop: int, slot: int, slots: int, asking: Iterable[int], redirecting: Iterable[int]
) -> dict[str, Any]:
    """One hop for the uids of one slot; returns its counts. `asking`: the slots that asked at the hop before;
    `redirecting`: the runs that hold redirects at all."""
    state = storage.read_state(trail.file(f"{_unit(hop, slot)}.json"))
    if state is not None:
        return state
    first = hop == 0
    told = _asked_first(job, trail, slot, slots, redirecting) if first else _asked_on(job, trail, hop, slot, asking)
    steps = list(told)
    counted, files = {}, {}
    for kind, key in _KEYS.items():
        table = _together([tables[kind] for tables in steps if kind in tables], kind)
        counted[kind] = table.num_rows
        if table.num_rows:
            name = f"{_unit(hop, slot)}.{kind}.pack"
            slot_of = job.cut.bucket_of(table.column(key)) * slots // job.buckets
            files[name] = packs.publish_cut(trail.file(name), table, slot_of, slots)
        if kind == "found":
            payloads = pa.table([pc.unique(redirects.lost(table).column("payload"))], schema=LOST_PAYLOADS)
            counted["lost"] = payloads.num_rows if hop <= HOPS else 0
            if counted["lost"]:
                name = f"{_unit(hop, slot)}.lost.pack"
                files[name] = packs.publish_pack(trail.file(name), [payloads], 1)
    storage.publish_state(trail.file(f"{_unit(hop, slot)}.json"), counted, files)
    return counted


def _asked_first(
    job: Job, trail: Trail, slot: int, slots: int, redirecting: Iterable[int]
) -> Iterator[dict[str, pa.Table]]:
    """What the mentions of a slot, or its revisits, ask for. One bucket at a time is held."""
    every = range(trail.runs)
    others = sorted(set(every) - set(redirecting))
    for bucket in range(job.buckets * slot // slots, job.buckets * (slot + 1) // slots):
        images = trail.images(redirecting, bucket)
        if not len(redirects.moved(images)):
            continue
        images += trail.images(others, bucket)
        if trail.of_revisits:
            yield {"asked": redirects.ask_revisits(images)}
        else:
            yield {"asked": redirects.ask(runs.read_bucket(trail.runs_folder, every, runs.OCCURRENCES, bucket), images)}


def _asked_on(job: Job, trail: Trail, hop: int, slot: int, asking: Iterable[int]) -> Iterator[dict[str, pa.Table]]:
    """What one hop more leads to. One bucket at a time is held."""
    urls = [trail.file(f"{_unit(hop - 1, at)}.asked.pack") for at in asking]
    asked = packs.concat([rows for url in urls for rows in packs.read_pack(url, slot, slot + 1)], ASKED)
    lies_in = job.cut.bucket_of(asked.column("at"))
    for bucket in np.unique(lies_in).tolist():
        yield redirects.step(trail.images(range(trail.runs), bucket), asked.filter(pa.array(lies_in == bucket)), hop)


def find_originals(job: Job, trail: Trail, slot: int, slots: int, losing: Iterable[Unit]) -> int:
    """Looks through a slot for captures of lost payloads; returns how many it has."""
    name = f"originals-{slot:05d}"
    state = storage.read_state(trail.file(f"{name}.json"))
    if state is not None:
        return state["rows"]
    lost = [rows for unit in losing for rows in packs.read_pack(trail.file(f"{_unit(*unit)}.lost.pack"), 0, 1)]
    payloads = pc.unique(packs.concat(lost, LOST_PAYLOADS).column("payload"))
    buckets = range(job.buckets * slot // slots, job.buckets * (slot + 1) // slots)
    found = [redirects.originals(trail.images(range(trail.runs), bucket), payloads) for bucket in buckets]
    rows = redirects.first_of(pa.concat_tables([ORIGINALS.empty_table(), *found]))
    note = packs.publish_pack(trail.file(f"{name}.pack"), [rows], 1)
    storage.publish_state(trail.file(f"{name}.json"), {"rows": rows.num_rows}, {f"{name}.pack": note})
    return rows.num_rows


def ask_originals(job: Job, trail: Trail, slot: int, slots: int, losing: Iterable[Unit], having: Iterable[int]) -> int:
    """What the revisits of a slot that led nowhere ask for; `having`: the slots with originals. Returns how many."""
    unit = _unit(_TO_ORIGINALS, slot)
    state = storage.read_state(trail.file(f"{unit}.json"))
    if state is not None:
        return state["asked"]
    known = [rows for at in having for rows in packs.read_pack(trail.file(f"originals-{at:05d}.pack"), 0, 1)]
    urls = [trail.file(f"{_unit(*each)}.found.pack") for each in losing]
    found = packs.concat([rows for url in urls for rows in packs.read_pack(url, slot, slot + 1)], FOUND)
    asked = redirects.ask_originals(found, redirects.first_of(packs.concat(known, ORIGINALS)))
    slot_of = job.cut.bucket_of(asked.column("at")) * slots // job.buckets
    note = packs.publish_cut(trail.file(f"{unit}.asked.pack"), asked, slot_of, slots)
    storage.publish_state(trail.file(f"{unit}.json"), {"asked": asked.num_rows}, {f"{unit}.asked.pack": note})
    return asked.num_rows


def gather(
    job: Job, trail: Trail, slot: int, slots: int, units: Mapping[str, Iterable[Unit]]
) -> dict[str, storage.Note]:
    """What all hops have found for the uids of one slot; returns the notes of its files."""
    name = f"all-{slot:05d}"
    state = storage.read_state(trail.file(f"{name}.json"))
    if state is not None:
        return state["files"]
    files = {}
    for kind, some in units.items():
        # What a slot has reached lies in it; what it has found may have been asked for by any.
        tables: dict[bool, list[pa.Table]] = {False: [], True: []}
        for hop, at in some:
            if kind == "found" or at == slot:
                url = trail.file(f"{_unit(hop, at)}.{kind}.pack")
                tables[hop == _AT_ORIGINALS] += packs.read_pack(url, slot, slot + 1)
        if kind == "found" and tables[True]:  # in place of what was lost before
            origins = packs.concat(tables[True], FOUND).column("origin")
            tables[False] = [t.filter(pc.invert(pc.is_in(t.column("origin"), origins))) for t in tables[False]]
        table = _together(tables[False] + tables[True], kind)
        files[f"{name}.{kind}.parquet"] = parquet.publish_rows(trail.file(f"{name}.{kind}.parquet"), table, _KEYS[kind])
    storage.publish_state(trail.file(f"{name}.json"), {}, files)
    return files


def _together(tables: list[pa.Table], kind: str) -> pa.Table:
    return packs.concat(tables, _SCHEMAS[kind]).sort_by(_KEYS[kind])


def followed(job: Job, trail: Trail, bucket: int) -> Followed:
    """What the join of one bucket needs."""
    state = storage.read_state(trail.file(_FOLLOWED))
    if state is None:
        where, hint = storage.shown(trail.file(_FOLLOWED)), "run the same command again"
        raise DataError(where, "is not there", "what following redirects has published", hint)
    if not state["slots"]:
        return Followed.of([], [])
    (low, high), slot = job.cut.range_of(bucket), bucket * state["slots"] // job.buckets
    found, reached = (
        parquet.read_range(trail.file(f"all-{slot:05d}.{kind}.parquet"), _KEYS[kind], low, high)
        for kind in ("found", "reached")
    )
    return Followed.of([found], [reached])
