"""From parts to the pool: each that is not there is read, a large file in ranges.

A range begins where reading from the front would come by, as far as can be seen from there (a payload may look like the
start of a record), and notes where it really ended. When the next one began elsewhere it is read again from there: what
is joined is what reading from the front gives.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from curation.job import Job
from curation.pool.store import REDIRECTS, ROWS, first_bad, part_folder
from curation.runner.calls import Call, Do
from curation.runner.inputs import reading
from curation.runner.inputs.naming import Parts
from curation.sources.source import Part, Place
from curation.table.schemas import BAD
from pipeline import storage
from pipeline.log import get_logger

log = get_logger("curation")

Counts = dict[str, dict[str, int]]
"""Id -> counts."""
_CHECKED = 16  # parts checked by one task
_RANGE_BYTES = 4 << 20, 256 << 20  # of a file that is read by several tasks
_RANGES = 32  # that all inputs are worth at least: four tasks each for eight cores end at about the same time
_HELD = 65_536  # tasks, of which what they told is held at a time


@dataclass
class Pooled:
    """What the pool has of a job's inputs. parts: by part, all counts; pieces: by folder of the pool, of which a part
    that was read in ranges has several, how many rows are there; owners: folder -> part."""

    parts: Counts = field(default_factory=dict)
    pieces: Counts = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def add(self, part: str, counts: Mapping[str, int], pieces: Mapping[str, Mapping[str, int]] | None) -> None:
        # Names that are objects once, not once a part: there may be some 100,000 parts.
        self.parts[part] = {intern(name): count for name, count in counts.items()}
        for piece, each in (pieces or {part: counts}).items():
            self.pieces[piece] = {name: each[name] for name in (*ROWS, REDIRECTS) if name in each}
            self.owners[piece] = part


def pooled(job: Job, parts: Parts, do: Do) -> Pooled:
    """Reads into the pool what is not there, or not as it was written."""
    done = Pooled()
    add_sound(job, [part.id for _, part in parts], do, done)
    batch: list[tuple[int, Part, list[int]]] = []
    size = 0
    least, most = _RANGE_BYTES
    about = min(max(least, sum(part.bytes for _, part in parts) // _RANGES), most)
    for source, part in parts:
        if part.id not in done.parts:
            cuts = job.settings.sources[source].cuts(part, about)
            batch.append((source, part, cuts))
            size += 1 + len(cuts)
            if size >= _HELD:
                _read(job, batch, do, done)
                batch, size = [], 0
    _read(job, batch, do, done)
    _tell_bad(job, parts, done)
    return done


def _tell_bad(job: Job, parts: Parts, done: Pooled) -> None:
    """A line for each reason for which records make no pair, with the first place of it; counts by file are in the
    manifest."""
    totals: Counter[str] = Counter()
    files: Counter[str] = Counter()
    first: dict[str, Part] = {}
    for _, part in parts:
        for name, count in done.parts[part.id].items():
            if name.startswith(BAD) and count:
                totals[name] += count
                files[name] += 1
                first[name] = min(first.get(name, part), part, key=lambda each: each.path)
    for name in sorted(totals):
        reason, path = name.removeprefix(BAD), storage.shown(first[name].path)
        place = first_bad(job.pool, first[name].id).get(reason, "")
        where = f"{path}, {place}" if place else path
        log.warning("%d bad records in %d files: %s; the first: %s", totals[name], files[name], reason, where)


def add_sound(job: Job, parts: Sequence[str], do: Do, done: Pooled) -> None:
    """Adds the parts that are in the pool as they were written; others are undone. One listing tells which are there at
    all. Each image has a hash of its own."""
    there = set(storage.list_folders(storage.join(job.pool, "parts")))
    asked = [part for part in parts if part in there]
    batches = [tuple(asked[at : at + _CHECKED]) for at in range(0, len(asked), _CHECKED)]
    calls = [Call(reading.check_parts, (batch,), f"checking part {batch[0]} and on") for batch in batches]
    for _, found in do(calls, "checking the pool", "batches"):
        for part, (counts, pieces, fault) in found.items():
            if fault:
                log.warning("%s: %s; it is made again", storage.shown(part_folder(job.pool, part)), fault)
            if counts is not None:
                done.add(part, counts, pieces)


def _read(job: Job, batch: Sequence[tuple[int, Part, list[int]]], do: Do, done: Pooled) -> None:
    """Reads some parts."""
    chains = {part.id: Chain(source, part, [0, *cuts, part.bytes]) for source, part, cuts in batch if cuts}
    calls = [Call(reading.ingest, (at, part), f"reading {part.path}") for at, part, cuts in batch if not cuts]
    calls += [call for chain in chains.values() for call in chain.guesses()]
    label = "reading inputs"
    while calls:
        for call, found in do(calls, label, "parts"):
            name = call.args[1].id
            if name in chains:
                chains[name].add(call, found)
            else:
                done.add(name, found, None)
        calls = [call for chain in chains.values() for call in chain.follow()]
        label = "reading ranges again"
    joins = [Call(reading.join_pieces, chain.joined(), f"reading {chain.part.path}") for chain in chains.values()]
    for call, counts in do(joins, "joining ranges", "files"):
        done.add(call.args[1].id, counts, call.args[2])


@dataclass
class Chain:
    """The ranges of one file, on their way to each beginning where the one before it ended."""

    source: int
    part: Part
    bounds: list[int]
    told: list[dict[Place, dict[str, Any]]] = field(default_factory=list)  # by range: place -> what was read from there
    pieces: Counts = field(default_factory=dict)  # those that follow each other, when nothing is missing

    def __post_init__(self) -> None:
        self.told = [{} for _ in self.bounds[1:]]

    def guesses(self) -> list[Call]:
        """All ranges, each from where it seems to begin."""
        return [self._call(at, None) for at in range(len(self.told))]

    def _call(self, at: int, place: Place | None) -> Call:
        start, stop = self.bounds[at : at + 2]
        name = f"reading {self.part.path} from byte {start}"
        return Call(reading.ingest_range, (self.source, self.part, start, stop, place), name)

    def add(self, call: Call, found: dict[str, Any] | None) -> None:
        if found is not None:
            self.told[self.bounds.index(call.args[2])][found["entered"]] = found

    def follow(self) -> list[Call]:
        """Goes from range to range; returns what must be read for that. One that begins elsewhere than the one before
        ended is read from there; meanwhile what it seemed to be says where the next one probably begins."""
        calls: list[Call] = []
        self.pieces = {}
        place: Place | None = None
        for at, told in enumerate(self.told):
            if place is not None and place[0] >= self.bounds[at + 1]:
                continue  # a record, or damage, goes on through all of it
            found = told.get(place) if place is not None else next(iter(told.values()))
            if found is None:
                calls.append(self._call(at, place))
                found = next(iter(told.values()), None)
                if found is None:
                    break
            self.pieces[found["piece"]] = found["counts"]
            place = found["left"]
        return calls

    def joined(self) -> tuple[int, Part, Counts, tuple[str, ...]]:
        """Arguments of reading.join_pieces: what follows each other, and what was read in vain."""
        vain = {found["piece"] for told in self.told for found in told.values()} - set(self.pieces)
        return self.source, self.part, self.pieces, tuple(sorted(vain))
