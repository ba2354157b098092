"""The urls of one slot: asked for in turns, so that the driver hears how it goes, and committed batch by batch.

    <output>/_work/fetch-<plan>/<hop>-<slot>/<chunk>-<batch>.json   a batch is in the pool: its part
                                            /<chunk>.json           so is all of the chunk
                                            /hosts.json             their rules, and who rests: for the next turn
                               /leads-<hop>-slot-<slot>.pack, .json where its answers lead to, by bucket: all is done

    <pool>/parts/fetched-<policy>-<random>/                  a batch: a part like any other, and
                                          /ledger.parquet    one row for each url: LEDGER

All urls of a host are in one slot, and a slot is with one task at a time: so the limits of a host are those of the
whole cluster. A slot with a host of a hundred million urls takes as long as that host does; others go on beside it.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.fetch.outcome import Outcome
from curation.fetch.session import Session
from curation.images.shrink import named_by
from curation.job import Job
from curation.pool.store import FETCHED, VERSION, PoolSink, part_folder
from curation.runner.explained import explained
from curation.runner.fetching.asking import URLS, WANTED, Plan
from curation.settings import CurateSettings
from curation.table import packs, parquet
from curation.table.uids import uid_of_url
from pipeline import storage
from pipeline.settings import digest_of

CHUNK_URLS = 100_000
"""Held at a time; a slot with more is worked through in chunks."""
LEDGER = pa.schema(
    [
        pa.field("url", pa.string()),
        pa.field("status", pa.int32()),  # of the last answer; 0: none
        pa.field("reason", pa.string()),  # why no image was had; "" for one, and for a redirect
        pa.field("attempts", pa.int32()),
        pa.field("at", pa.string()),  # when the last of them ended, ISO 8601
        pa.field("location", pa.string()),  # where it redirects to, canonical, or ""
    ]
)


def policy_of(settings: CurateSettings) -> str:
    """16 hex naming what decides what is kept of which answers."""
    assert settings.fetching is not None
    return digest_of([VERSION, settings.fetching.policy(), named_by(settings.shrink)])


def part_prefix(settings: CurateSettings) -> str:
    return f"{FETCHED}{policy_of(settings)}-"


def turn(job: Job, plan: Plan, hop: int, slot: int, urls: Sequence[str], seconds: float) -> dict[str, Any]:
    """Goes on with a slot for so long; returns what came in this turn ({"reasons": by reason, "" for what was had,
    "counted", "good"}), whether it `is_done`, and then how many `leads` it found. `urls`: the packs to read from."""
    done = plan.file(f"leads-{hop}-slot-{slot:05d}.json")
    state = storage.read_state(done)
    if state is not None:
        return {"reasons": {}, "counted": 0, "good": 0, "is_done": True, "leads": state["leads"]}
    work = _Turn(job, plan, [_name(at, slot) for at in range(hop + 1)], time.monotonic() + seconds)
    with explained(f"curate.fetch, slot {slot}"):
        is_done = work.run(urls, slot)
    told = {"reasons": dict(work.reasons), "counted": work.counted, "good": work.good, "is_done": is_done, "leads": 0}
    if is_done:
        told["leads"] = _publish_leads(job, plan, hop, slot, work.parts)
    return told


def _name(hop: int, slot: int) -> str:
    return f"{hop}-{slot:05d}"


class _Turn:
    """One turn of a slot. `names`: of its folders at every hop so far."""

    def __init__(self, job: Job, plan: Plan, names: Sequence[str], until: float) -> None:
        self._job, self._plan, self._until = job, plan, until
        self._folders = [storage.join(plan.folder, name) for name in names]
        self._folder = self._folders[-1]
        self._last: deque[bool] = deque(maxlen=plan.settings.window)
        self.reasons: Counter[str] = Counter()
        self.counted = self.good = 0
        self.parts: list[str] = []
        self._before: set[str] = set()  # urls of the chunk that have failed before

    def run(self, urls: Sequence[str], slot: int) -> bool:
        """Whether the slot is done."""
        names = set(storage.list_names(self._folder))
        states = {name: storage.read_state(self._file(name)) for name in names if "-" in name}
        batches = {name: state["part"] for name, state in states.items() if state is not None}
        self.parts = sorted(batches.values())
        is_done = True
        with Session(self._plan.settings, self._hosts()) as session:
            for number, chunk in enumerate(_chunks(urls, slot)):
                mine = [part for name, part in batches.items() if name.startswith(f"{number}-")]
                is_done = f"{number}.json" in names or self._chunk(session, number, chunk, mine)
                if not is_done:
                    break
            storage.publish_state(self._file("hosts.json"), session.plain())
        return is_done

    def _hosts(self) -> dict[str, Any] | None:
        """What the turn before knew of the hosts, at this hop or an earlier one."""
        for folder in reversed(self._folders):
            state = storage.read_state(storage.join(folder, "hosts.json"))
            if state is not None:
                return state
        return None

    def _file(self, name: str) -> str:
        return storage.join(self._folder, name)

    def _goes_on(self) -> bool:
        if time.monotonic() >= self._until:
            return False
        settings = self._plan.settings
        return len(self._last) < settings.window or sum(self._last) >= settings.min_success * settings.window

    def _chunk(self, session: Session, number: int, chunk: pa.Table, parts: Sequence[str]) -> bool:
        """Goes on with a chunk, of which `parts` are had; returns whether it is done."""
        uids: dict[str, list[str]] = {}
        self._before = set(chunk.column("url").filter(chunk.column("before")).to_pylist())
        for uid, url in zip(chunk.column("uid").to_pylist(), chunk.column("url").to_pylist(), strict=True):
            uids.setdefault(url, []).append(uid)
        for part in parts:
            for url in read_ledger(self._job.pool, part, ["url"]).column("url").to_pylist():
                uids.pop(url, None)
        left, batch = len(uids), len(parts)
        outcomes = session.outcomes(list(uids), self._goes_on)
        for first in outcomes:
            left -= self._batch(first, outcomes, uids, f"{number}-{batch}.json")
            batch += 1
        if left == 0:
            storage.publish_state(self._file(f"{number}.json"), {})
        return left == 0

    def _batch(self, first: Outcome, rest: Iterator[Outcome], uids: dict[str, list[str]], name: str) -> int:
        """Puts outcomes into the pool until they are enough for a part; returns how many."""
        settings, rows, size = self._plan.settings, [], 0
        part = f"{part_prefix(self._job.settings)}{os.urandom(8).hex()}"
        with PoolSink(self._job.pool, part, self._job.settings.shrink) as sink:
            outcome: Outcome | None = first
            while outcome is not None:
                for uid in uids[outcome.url]:
                    _put(sink, outcome, uid)
                rows.append(self._noted(outcome))
                size += len(outcome.body or b"")
                full = len(rows) >= settings.commit_urls or size >= settings.commit_bytes
                outcome = None if full else next(rest, None)
            ledger = pa.Table.from_pylist(rows, schema=LEDGER).sort_by("url")
            note = parquet.publish_rows(storage.join(part_folder(self._job.pool, part), "ledger.parquet"), ledger)
            sink.finish({"fetched": len(rows)}, {"ledger.parquet": note})
        storage.publish_state(self._file(name), {"part": part})
        self.parts.append(part)
        return len(rows)

    def _noted(self, outcome: Outcome) -> dict[str, Any]:
        self.reasons[outcome.reason] += 1
        if outcome.counts and outcome.url not in self._before:
            self._last.append(not outcome.reason)
            self.counted += 1
            self.good += not outcome.reason
        return {
            "url": outcome.url,
            "status": outcome.status,
            "reason": outcome.reason,
            "attempts": outcome.attempts,
            "at": outcome.fetched_at,
            "location": outcome.location,
        }


def _put(sink: PoolSink, outcome: Outcome, uid: str) -> None:
    sink.image(
        url=outcome.url,
        uid=uid,
        body=outcome.body,
        status=outcome.status,
        content_type=outcome.content_type,
        x_robots_tag=outcome.x_robots_tag,
        fetched_at=outcome.fetched_at,
        location=outcome.location,
        problem=outcome.problem,
    )


def _chunks(urls: Sequence[str], slot: int) -> Iterator[pa.Table]:
    """WANTED of a slot, some sources at a time."""
    held: list[pa.Table] = []
    for url in urls:
        held += packs.read_pack(url, slot, slot + 1)
        if sum(table.num_rows for table in held) >= CHUNK_URLS:
            yield packs.concat(held, WANTED)
            held = []
    if held:
        yield packs.concat(held, WANTED)


def read_ledger(pool: str, part: str, columns: list[str]) -> pa.Table:
    return storage.read_parquet(storage.join(part_folder(pool, part), "ledger.parquet")).select(columns)


def _publish_leads(job: Job, plan: Plan, hop: int, slot: int, parts: Sequence[str]) -> int:
    """Where the answers of a slot redirect to; returns how many urls."""
    found: set[str] = set()
    for part in parts:
        column = read_ledger(job.pool, part, ["location"]).column("location")
        found.update(column.filter(pc.not_equal(column, "")).to_pylist())
    name, files = f"leads-{hop}-slot-{slot:05d}", {}
    if found:
        urls = sorted(found)
        rows = pa.table([pa.array(map(uid_of_url, urls), pa.string()), pa.array(urls, pa.string())], schema=URLS)
        at = job.cut.bucket_of(rows.column("uid"))
        files[f"{name}.pack"] = packs.publish_cut(plan.file(f"{name}.pack"), rows, at, job.buckets)
    storage.publish_state(plan.file(f"{name}.json"), {"leads": len(found)}, files)
    return len(found)


def pace(number: int) -> float:
    """Seconds of the turn of that number: short ones at first, so that a download that fails is soon found out."""
    return min(10.0 * 2**number, 600.0)
