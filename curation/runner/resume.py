"""What an earlier start left, looked at before it is built upon: what is damaged is made undone, with one line each.

A unit of work is a state file that vouches for its files. Each is hashed once, by tasks, before anything reads it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from curation.job import Job, Segment
from curation.pool.store import part_folder
from curation.runner import exchange, tasks
from curation.runner.cluster import Call, Do
from pipeline import storage
from pipeline.log import get_logger

log = get_logger("curation")


def recheck_segments(job: Job, do: Do) -> None:
    """Every finished bucket, slot and fold of the working folder, and every joined bucket that this job goes on
    from, is as it was written, or undone."""
    calls = []
    folders = [job.exchange_file(segment, "").rstrip("/") for segment in job.segments]
    for folder in [job.joined_folder, job.runs_folder, job.redirects_folder, *folders]:
        for name in storage.list_names(folder):
            if name.endswith(".json"):
                stem = name.removesuffix(".json")
                # Pairs, notes and settled rows are freed when the next segment is done.
                may_lack = folder in folders and stem != "folded"
                freed = (f"{stem}.parquet", f"{stem}.notes.parquet") if may_lack else ()
                calls.append(Call(tasks.recheck, (folder, name, freed), f"checking {folder}/{name}"))
    _report(do(calls, "checking what is done", "units"))


def recheck_parts(job: Job, parts: Iterable[str], do: Do) -> None:
    """Every part that is in the pool is as it was written, or undone. Each image has a hash of its own."""
    folders = [part_folder(job.pool, part) for part in parts]
    folders = [folder for folder in folders if storage.exists(storage.join(folder, "part.json"))]
    calls = [Call(tasks.recheck, (folder, "part.json"), f"checking {folder}") for folder in folders]
    _report(do(calls, "checking the pool", "parts"))


def reopen(job: Job) -> None:
    """A bucket whose pairs or notes are gone is done again when the segment after it must be.

    They are freed when that one is done; it must be done again when a recipe was changed in the middle of a job (the
    next segment then has another name), and when something of it was damaged. Or somebody removed them.
    """
    buckets = range(job.buckets)
    must = True  # what follows the last segment is made from its pairs
    for at in range(len(job.segments) - 1, -1, -1):
        here, following = job.segments[at], job.segments[at + 1] if at + 1 < len(job.segments) else None
        done = [bucket for bucket in buckets if tasks.read_counts(job, here, bucket)]
        if here.opener is not None and not exchange.is_folded(job, here):  # the books read it, too
            for bucket in done:
                storage.remove(job.file(here, bucket, ".json"))
            done = []
        if must:
            needed = _needed(job, following)
            gone = [b for b in done if not all(storage.exists(job.file(here, b, suffix)) for suffix in needed)]
            for bucket in gone:
                storage.remove(job.file(here, bucket, ".json"))
            done = [bucket for bucket in done if bucket not in gone]
        must = len(done) < len(buckets)


def _needed(job: Job, segment: Segment | None) -> list[str]:
    """The files of the segment before that `segment` is made from."""
    surveyed = segment is not None and segment.opener is not None and not exchange.is_folded(job, segment)
    return [".parquet", ".notes.parquet"] if surveyed else [".parquet"]


def _report(results: Iterator[tuple[Call, Any]]) -> None:
    for call, fault in results:
        if fault:
            log.warning("%s: %s; it is made again", storage.shown(call.args[0]), fault)
