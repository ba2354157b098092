"""What an earlier run left, looked at before it is built upon: what is damaged is made undone, with one line each.

A unit of work is a state file that vouches for its files. Each is hashed once, by tasks, before anything reads it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from curation.job import Job, Segment
from curation.pool.store import part_folder
from curation.runner import exchange, tasks
from curation.runner.cluster import Call
from pipeline import storage
from pipeline.log import get_logger

log = get_logger("curation")
Do = Callable[[list[Call], str, str], Iterator[tuple[Call, Any]]]  # runs calls under a label, counting units


def recheck_segments(job: Job, do: Do) -> None:
    """Every finished bucket, slot and fold of the working folder is as it was written, or undone."""
    calls = []
    for segment in job.segments:
        folder = job.exchange_file(segment, "").rstrip("/")
        for name in storage.list_names(folder):
            if name.endswith(".json"):
                stem = name.removesuffix(".json")
                # Pairs, notes and settled rows are freed when the next segment is done.
                freed = (f"{stem}.parquet", f"{stem}.notes.parquet") if stem != "folded" else ()
                calls.append(Call(tasks.recheck, (folder, name, freed), f"checking {folder}/{name}"))
    _report(do(calls, "checking what is done", "units"))


def recheck_parts(job: Job, parts: Iterable[str], do: Do) -> None:
    """Every part that is in the pool is as it was written, or undone. Each image has a hash of its own."""
    folders = [part_folder(job.pool, part) for part in parts]
    folders = [folder for folder in folders if storage.exists(storage.join(folder, "part.json"))]
    calls = [Call(tasks.recheck, (folder, "part.json"), f"checking {folder}") for folder in folders]
    _report(do(calls, "checking the pool", "parts"))


def reopen(job: Job) -> None:
    """A finished segment whose pairs or notes are freed is done again when the one after it must be.

    That is so when a recipe was changed in the middle of a run (the next segment then has another name), and when
    something of the next one was damaged.
    """
    buckets = range(job.buckets)
    done = [all(tasks.read_counts(job, segment, bucket) for bucket in buckets) for segment in job.segments]
    first = done.index(False) if False in done else 0
    while first > 0 and not _has_input(job, job.segments[first - 1], job.segments[first]):
        first -= 1
        for bucket in buckets:
            storage.remove(job.file(job.segments[first], bucket, ".json"))


def _has_input(job: Job, before: Segment, segment: Segment) -> bool:
    needed = (
        [".parquet"] if segment.opener is None or exchange.is_folded(job, segment) else [".parquet", ".notes.parquet"]
    )
    urls = [job.file(before, bucket, suffix) for bucket in range(job.buckets) for suffix in needed]
    return all(storage.exists(url) for url in urls)


def _report(results: Iterator[tuple[Call, Any]]) -> None:
    for call, fault in results:
        if fault:
            log.warning("%s: %s; it is made again", storage.shown(call.args[0]), fault)
