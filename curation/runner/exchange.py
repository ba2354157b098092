"""What every bucket has for every slot, brought together: packs of the sources, merged in groups when they are many.

Everything goes through files in the working folder: memory is bounded by a run of slots, and a rerun goes on where the
last one stopped. Of S sources and T readers direct reading costs 2 S T reads; above FAN sources each group of FAN is
merged into one pack first, which reads every byte once more and leaves 2 (S / FAN) T.
"""

from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa

from curation.job import Job, Segment
from curation.runner.calls import Call, Do
from curation.table import packs
from pipeline import storage

FAN = 512
"""Sources read one by one; more are merged, so many at a time."""
RUNS = 256
"""A run of slots has more rows than its least rather than that there be more runs."""
READ = 16
"""Packs of answers that every bucket reads one by one; more are merged."""
MOST = 16
"""How many times its least a run of slots may have, so that there are not too many."""
FROM = "_bucket"
"""The column that says which bucket a row came from."""
Combine = Callable[[pa.Table], pa.Table]


class Sources(NamedTuple):
    """Packs of one exchange: of every bucket, or of every group of buckets."""

    urls: tuple[str, ...]

    def read(self, first: int, stop: int) -> list[pa.Table]:
        """What all have for the slots [first, stop)."""
        return [table for url in self.urls for table in packs.read_pack(url, first, stop)]


def groups_of(number: int, most: int | None = None) -> list[range]:
    """The sources of each merged pack; none when they are at most `most` (FAN) and are read one by one."""
    if number <= (FAN if most is None else most):
        return []
    return [range(at, min(at + FAN, number)) for at in range(0, number, FAN)]


def merged(
    job: Job,
    here: Segment,
    name: str,
    urls: list[str],
    do: Do,
    label: str,
    call: Callable,
    most: int | None = None,
) -> list[str]:
    """The urls to read from: those given, or of packs merged from them by `call(job, index, name, group, urls)`."""
    groups = groups_of(len(urls), most)
    if not groups:
        return urls
    calls = [
        Call(call, (here.index, name, at, [urls[i] for i in group]), f"{label}: bring together")
        for at, group in enumerate(groups)
    ]
    for _ in do(calls, f"{label}: bring together", "groups"):
        pass
    return urls_of(job, here, name, len(groups), is_merged=True)


def urls_of(job: Job, here: Segment, name: str, number: int, is_merged: bool = False) -> list[str]:
    """The packs of an exchange, as tasks wrote them or merged."""
    head = f"{name}-merged" if is_merged else name
    return [job.closing_file(here, f"{head}-{at:05d}.pack") for at in range(number)]


def gather(job: Job, index: int, name: str, at: int, urls: list[str]) -> int:
    """Merges packs that are cut by bucket, as they are; returns what `merge` does."""
    return merge(job, index, name, at, urls, job.buckets)


def merge(job: Job, index: int, name: str, at: int, urls: list[str], slots: int, combine: Combine | None = None) -> int:
    """Merges some packs into one; returns how often a pack was opened besides the first time, as `packs.by_slot` does
    where they have more than it holds at once."""
    here = job.segments[index]
    state = f"{name}-merged-{at:05d}.json"
    if is_done(job, here, state):
        return 0

    pack = f"{name}-merged-{at:05d}.pack"
    tables = (_together(found, combine) for found in packs.by_slot(urls, slots))
    note = packs.publish_pack(job.closing_file(here, pack), tables, slots)
    storage.publish_state(job.closing_file(here, state), {}, {pack: note})
    return len(urls) * (-(-slots // packs.run_of_slots(urls, slots)) - 1)


def _together(found: list[pa.Table], combine: Combine | None) -> pa.Table:
    if not found:
        return pa.table({})
    table = pa.concat_tables(found, promote_options="permissive")
    return combine(table) if combine else table


def is_done(job: Job, here: Segment, name: str) -> bool:
    """Whether a state of the closing is there, with its files. Their bytes are checked once a start, by
    `tasks.recheck`."""
    state = storage.read_state(job.closing_file(here, name))
    return state is not None and all(storage.exists(job.closing_file(here, file)) for file in state["files"])


def runs(slots: int, rows: int, least: int, most: int | None = None) -> list[tuple[int, int]]:
    """Equal runs of slots, (first, stop): of at least about `least` of `rows` rows each, of more where there would be
    more runs than RUNS, up to MOST times as many, or `most`."""
    each = max(least, min(least * MOST, rows // RUNS, rows if most is None else most))
    number = min(slots, max(1, 1 << max(-(-rows // each) - 1, 0).bit_length()))
    size = slots // number
    return [(at, at + size) for at in range(0, slots, size)]
