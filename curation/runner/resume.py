"""What an earlier start left, looked at before it is built upon: what is damaged is made undone, with one line each.

A unit of work is a state file that vouches for its files. Each is hashed once, by tasks, before anything reads it.
"""

from typing import Any

from curation.job import Job, Segment
from curation.runner import tasks
from curation.runner.calls import Call, Do
from curation.stage import Reduce
from curation.states import CLOSED, SETTLED
from pipeline import storage
from pipeline.log import get_logger

log = get_logger("curation")
_FREED = 256  # buckets freed by one task


States = dict[str, dict[str, Any]]
"""Url of a state that is sound -> what it says."""


def recheck_segments(job: Job, do: Do) -> States:
    """Every finished bucket, joined or behind a segment, and every step between segments, is as it was written, or
    undone. One listing a folder."""
    calls = []
    folders = [storage.join(job.work, segment.folder) for segment in job.segments]
    closings = [storage.join(job.work, segment.closing_folder) for segment in job.segments]
    for folder in dict.fromkeys([job.joined_folder, job.runs_folder, job.redirects_folder, *folders, *closings]):
        for name in storage.list_names(folder):
            if name.endswith(".json"):
                stem = name.removesuffix(".json")
                freed = (".parquet", *tasks.ASKED) if folder in folders else ()  # by `free`
                args = (folder, name, tuple(stem + suffix for suffix in freed))
                calls.append(Call(tasks.recheck, args, f"checking {folder}/{name}"))
    known: States = {}
    open_again: set[str] = set()
    for call, (fault, state) in do(calls, "checking what is done", "units"):
        if fault:
            _warn(call, fault)
            open_again.update({call.args[0]} & set(closings))
        else:
            known[storage.join(*call.args[:2])] = state
    for folder in open_again:  # it is closed, and a round settled, when all of it is there
        for name in storage.list_names(folder):
            if name == CLOSED or name.endswith(SETTLED):
                storage.remove(storage.join(folder, name))
                known.pop(storage.join(folder, name), None)
    return known


def reopen(job: Job, known: States) -> None:
    """Undoes, and takes out of `known`, the buckets whose pairs or questions are gone and are needed again, and all
    that was judged by what is gone.

    They are freed when the segments behind them are done; those must be done again when a recipe was changed in the
    middle of a job (they have other names then), and when something of them was damaged. Or somebody removed them.
    """
    must = True  # what follows the last segment is made from its pairs
    for at in range(len(job.segments) - 1, -1, -1):
        here, following = job.segments[at], job.segments[at + 1] if at + 1 < len(job.segments) else None
        done = [bucket for bucket in range(job.buckets) if job.file(here, bucket, ".json") in known]
        gone: set[int] = set()
        if at and not _is_closed(job, job.segments[at - 1], known):  # the books read it, too
            gone.update(done)
        elif must and done:
            names, needed = set(storage.list_names(storage.join(job.work, here.folder))), _needed(job, following, known)
            gone.update(b for b in done if any(f"bucket-{b:05d}{suffix}" not in names for suffix in needed))
        for bucket in gone:
            storage.remove(job.file(here, bucket, ".json"))
            known.pop(job.file(here, bucket, ".json"))
        must = len(done) - len(gone) < job.buckets


def _is_closed(job: Job, segment: Segment, known: States) -> bool:
    return segment.closer is None or job.closing_file(segment, "closed.json") in known


def free(job: Job, here: Segment, do: Do) -> None:
    """Pairs and questions of segments that are needed no more: disk is bounded by those that `curate.keep` names."""
    old = here.index - max(job.settings.keep, 1)
    if old < 0:
        return
    runs = [range(at, min(at + _FREED, job.buckets)) for at in range(0, job.buckets, _FREED)]
    for _ in do([Call(tasks.free, (old, run), "freeing") for run in runs], "", "buckets"):
        pass


def _needed(job: Job, segment: Segment | None, known: States) -> list[str]:
    """The files of the segment before that `segment` is made from."""
    if segment is None or segment.opener is None or _is_closed(job, job.segments[segment.index - 1], known):
        return [".parquet"]
    return [".parquet", ".closing.parquet" if isinstance(job.stage(segment.opener), Reduce) else ".closing.pack"]


def _warn(call: Call, fault: str) -> None:
    log.warning("%s: %s; it is made again", storage.shown(call.args[0]), fault)
