"""Follows redirects before the join, hop by hop, through files: each hop takes what was asked to where it lies.

    <output>/_work/redirects-<digest>/<hop>-<slot>.asked.parquet     leads on, sorted by the uid asked for
                                     /<hop>-<slot>.found.parquet     what was found, sorted by the uid mentioned
                                     /<hop>-<slot>.reached.parquet   the uids whose stored image was found
                                     /<hop>-<slot>.json              counts; written last: done
                                     /followed.json                  all hops are done; vouches for what the join reads

A slot is a range of uids, as a bucket is, but of as many uids as hold SLOT_ROWS redirects: they are few, and fewer
slots mean fewer and larger reads. How many there are never changes the result.
"""

from collections.abc import Mapping
from typing import Any

from curation.job import Job
from curation.pool import redirects
from curation.pool.redirects import HOPS, Followed
from curation.pool.store import REDIRECTS
from curation.runner.cluster import Call, Do
from curation.table import parquet, uids
from pipeline import storage
from pipeline.errors import DataError

SLOT_ROWS = 200_000
_FOLLOWED = "followed.json"
_SORTED = {"asked": "at", "found": "origin", "reached": "uid"}


def follow(job: Job, counts: Mapping[str, Mapping[str, int]], do: Do) -> None:
    """Follows the redirects of all parts, whose counts are given, unless that is done."""
    if storage.read_state(_file(job, _FOLLOWED)) is not None:
        return
    redirecting = sorted(part for part, each in counts.items() if each.get(REDIRECTS))
    slots = _slots(sum(counts[part][REDIRECTS] for part in redirecting), job.buckets)
    units: list[tuple[int, int]] = []
    files: dict[str, storage.Note] = {}
    asking = list(range(slots)) if redirecting else []
    for hop in range(HOPS + 1):
        if not asking:
            break
        todo = range(slots)
        calls = [
            Call(one_slot, (hop, at, slots, asking, redirecting), f"redirects, hop {hop}, slot {at}") for at in todo
        ]
        done = {call.args[1]: state for call, state in do(calls, f"redirects, hop {hop}", "slots")}
        asking = [at for at in todo if done[at]["asked"]]
        units += [(hop, at) for at in todo if done[at]["found"]]
        for at in todo:
            files |= {name: note for name, note in done[at]["files"].items() if ".asked." not in name}
    storage.publish_state(_file(job, _FOLLOWED), {"slots": slots, "units": units}, files)


def _slots(rows: int, buckets: int) -> int:
    """A power of two of at most `buckets`."""
    return min(buckets, uids.power_of_two(-(-rows // SLOT_ROWS)))


def _file(job: Job, name: str) -> str:
    return storage.join(job.redirects_folder, name)


def _unit(hop: int, slot: int) -> str:
    return f"{hop}-{slot:05d}"


def one_slot(job: Job, hop: int, slot: int, slots: int, asking: list[int], redirecting: list[str]) -> dict[str, Any]:
    """One hop for the uids of one slot; returns its state. `asking`: the slots that asked at the hop before."""
    state = storage.read_state(_file(job, f"{_unit(hop, slot)}.json"))
    if state is not None:
        return state
    low, high = uids.bucket_range(slot, slots)
    parts = list(job.parts)
    if hop == 0:
        tables = {"asked": redirects.ask(job.pool, parts, redirecting, low, high)}
    else:
        urls = [_file(job, f"{_unit(hop - 1, at)}.asked.parquet") for at in asking]
        asked = redirects.together([parquet.read_range(url, "at", low, high) for url in urls])
        tables = redirects.step(job.pool, parts, asked, hop)
    files = {}
    for kind, table in tables.items():
        if table.num_rows:
            name = f"{_unit(hop, slot)}.{kind}.parquet"
            files[name] = parquet.publish_rows(_file(job, name), table.sort_by(_SORTED[kind]))
    counted = {"asked": 0, "found": 0} | {kind: table.num_rows for kind, table in tables.items()}
    storage.publish_state(_file(job, f"{_unit(hop, slot)}.json"), counted, files)
    return {**counted, "files": files}


def followed(job: Job, bucket: int) -> Followed:
    """What the join of one bucket needs."""
    state = storage.read_state(_file(job, _FOLLOWED))
    if state is None:
        where, hint = storage.shown(_file(job, _FOLLOWED)), "run the same command again"
        raise DataError(where, "is not there", "what following redirects has published", hint)
    low, high = uids.bucket_range(bucket, job.buckets)
    here = bucket * state["slots"] // job.buckets
    found, reached = [], []
    for hop, slot in state["units"]:
        found.append(parquet.read_range(_file(job, f"{_unit(hop, slot)}.found.parquet"), "origin", low, high))
        name = f"{_unit(hop, slot)}.reached.parquet"
        if slot == here and name in state["files"]:
            reached.append(parquet.read_range(_file(job, name), "uid", low, high))
    return Followed.of(found, reached)
