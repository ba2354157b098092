"""A Reduce: partials of all buckets merged in a tree, finished, and once more while it must.

<segment folder>/bucket-00000.closing.parquet              the partial of the first round
<closing folder>/<round>-<bucket>.parquet, .json           of a further round
                /<round>-<level>-<n>.parquet, .json        merged
                /<round>-state.parquet, .json              {"again"}
                /closed.json                               {"rounds"}; the last state is what is judged by
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curation.job import Job, Segment, check_files
from curation.runner import exchange
from curation.runner.calls import Do
from curation.runner.closing.closer import call_for, closer_of, number_of
from curation.runner.closing.vectors import pairs_of, resolved
from curation.runner.explained import explained
from curation.stage import Again, Reduce, Verdicts
from curation.states import CLOSED, last_state, state_name
from pipeline import storage
from pipeline.storage import Note

FAN = 64
"""Partials merged by one task."""
ASKED = ".closing.parquet"


def ask(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> tuple[dict[str, Note], dict[str, int]]:
    stage = closer_of(job, here, Reduce)
    partial = stage.map(resolved(job, stage, pairs, bucket), None, job.context(number_of(here)))
    return {ASKED: _publish(job.file(here, bucket, ASKED), partial)}, {}


def close(job: Job, here: Segment, asked: Mapping[int, Mapping[str, Any]], do: Do) -> None:
    if exchange.is_done(job, here, CLOSED):
        return
    name = job.names[number_of(here)]
    urls = [job.file(here, bucket, ASKED) for bucket in range(job.buckets)]
    number, again = 0, True
    while again:
        if number:
            label = f"{name}: round {number + 1}"
            calls = [call_for(job, here, partial, (number, bucket), label) for bucket in range(job.buckets)]
            for _ in do(calls, label, "buckets"):
                pass
            urls = [job.closing_file(here, f"{number}-{bucket:05d}.parquet") for bucket in range(job.buckets)]
        level = 0
        while len(urls) > FAN:
            groups = [urls[at : at + FAN] for at in range(0, len(urls), FAN)]
            calls = [call_for(job, here, merge, (number, level, at, some), name) for at, some in enumerate(groups)]
            for _ in do(calls, f"{name}: add up", "groups"):
                pass
            urls = [job.closing_file(here, f"{number}-{level}-{at:05d}.parquet") for at in range(len(groups))]
            level += 1
        ((_, again),) = do([call_for(job, here, finish, (number, urls), name)], f"{name}: add up", "states")
        number += 1
    storage.publish_state(job.closing_file(here, CLOSED), {"rounds": number})


def verdicts(job: Job, here: Segment, bucket: int, pairs: pa.Table) -> Verdicts:
    stage = closer_of(job, here, Reduce)
    return stage.judge(resolved(job, stage, pairs, bucket), last_state(job, here), job.context(number_of(here)))


def partial(job: Job, index: int, number: int, bucket: int) -> None:
    """The partial of one bucket in a further round."""
    here = job.segments[index]
    name = f"{number}-{bucket:05d}"
    if exchange.is_done(job, here, f"{name}.json"):
        return
    check_files(job, [here.closer])
    state = storage.read_parquet(job.closing_file(here, f"{state_name(number - 1)}.parquet"))
    with explained(f"stage {job.names[number_of(here)]}, round {number + 1}, bucket {bucket}"):
        stage = closer_of(job, here, Reduce)
        found = stage.map(pairs_of(job, here, stage, bucket), state, job.context(number_of(here)))
    _publish_done(job, here, name, found, {})


def merge(job: Job, index: int, number: int, level: int, at: int, urls: list[str]) -> None:
    here = job.segments[index]
    name = f"{number}-{level}-{at:05d}"
    if not exchange.is_done(job, here, f"{name}.json"):
        _publish_done(job, here, name, _merged(job, here, urls), {})


def finish(job: Job, index: int, number: int, urls: list[str]) -> bool:
    """Publishes the state of a round; returns whether there must be another."""
    here = job.segments[index]
    name = state_name(number)
    if exchange.is_done(job, here, f"{name}.json"):
        return bool((storage.read_state(job.closing_file(here, f"{name}.json")) or {})["again"])
    check_files(job, [here.closer])
    before = storage.read_parquet(job.closing_file(here, f"{state_name(number - 1)}.parquet")) if number else None
    with explained(f"stage {job.names[number_of(here)]}, finishing"):
        state = closer_of(job, here, Reduce).finish(_merged(job, here, urls), before, job.context(number_of(here)))
    again = isinstance(state, Again)
    _publish_done(job, here, name, state.state if isinstance(state, Again) else state, {"again": again})
    return again


def _merged(job: Job, here: Segment, urls: list[str]) -> pa.Table:
    with explained(f"stage {job.names[number_of(here)]}, adding up"):
        return closer_of(job, here, Reduce).merge([storage.read_parquet(url) for url in urls])


def _publish(url: str, table: pa.Table) -> Note:
    storage.publish_parquet(url, table)
    return storage.note_of(url)


def _publish_done(job: Job, here: Segment, name: str, table: pa.Table, told: dict[str, Any]) -> None:
    note = _publish(job.closing_file(here, f"{name}.parquet"), table)
    storage.publish_state(job.closing_file(here, f"{name}.json"), told, {f"{name}.parquet": note})
