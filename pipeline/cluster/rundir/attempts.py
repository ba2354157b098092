"""attempts.jsonl: every submission, start and end, one JSON object each; and what follows from them.

{"event": "submitted", "on": "slurm", "jobs": [...], "recipe": DIGEST, "time": ...}
{"event": "successor", "on": "slurm", "of": "7", "job": "8", ...}: slurm/lib.sh has queued 8 to go on where 7 ends;
"no successor": it has taken that back. Neither forgives a failure, as a submission does.
{"event": "start", "attempt": 3, "stage": "train", "owner": ..., "host": ..., "nodes": 4, "step": 200, ...}
    of a curation start and end have "committed" as well: {"pool/parts": 120, ...}, finished units by folder
{"event": "end", "attempt": 3, "stage": "train", "status": "failed", "class": "crash", "step": 260, ...}
"""

import json
import os
import time
from itertools import pairwise
from typing import Any

from pipeline import storage
from pipeline.cluster.rundir.paths import RunDir

Event = dict[str, Any]


def note(run: RunDir, event: str, **fields: Any) -> None:
    """Appends one object. A line that a crash has cut is closed first, so that only that one is lost."""
    line = json.dumps({"event": event, **fields, "time": time.time()}) + "\n"
    with storage.storage_errors(run.attempts), open(run.attempts, "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def events(run: RunDir) -> list[Event]:
    """In the order in which they were written; lines that are none are left out."""
    if not run.attempts.exists():
        return []
    return [line.row for line in storage.json_lines(str(run.attempts)) if line.row and "event" in line.row]


def ends(found: list[Event]) -> dict[int, Event]:
    return {int(each["attempt"]): each for each in found if each["event"] == "end"}


def failures_in_a_row(found: list[Event], stage: str) -> int:
    """Attempts of a stage since the last submission that failed one after the other without anything newer to go on
    from. One that has no end was cut off (a node lost its power) and counts, as does one that stopped without being
    asked (Ray was lost, a budget of requests is spent); one that was asked to stop does not."""
    last = max((at for at, each in enumerate(found) if each["event"] == "submitted"), default=-1)
    starts = [each for each in found[last + 1 :] if each["event"] == "start" and each.get("stage") == stage]
    ended, count = ends(found), 0
    for start, following in pairwise([*starts, None]):
        assert start is not None
        end = ended.get(int(start["attempt"]))
        if end is None and following is None:
            break  # under way
        if any(advanced(start, after) for after in (end, following) if after is not None):
            count = 0
        elif end is None or end.get("status") == "failed" or not end.get("asked", True):
            count += 1
    return count


def advanced(before: Event, after: Event) -> bool:
    """Whether there was more to go on from: a newer checkpoint or manifest (`step`), or units of a curation
    (`committed`: how many, by folder). Folders that are removed when they have served, and units that were damaged and
    are made anew, are no gain."""
    if int(after.get("step", 0)) > int(before.get("step", 0)):
        return True
    then, now = before.get("committed"), after.get("committed")
    if not isinstance(then, dict) or not isinstance(now, dict):
        return False  # the storage did not say
    return any(number > then.get(name, 0) for name, number in now.items())


def completed(found: list[Event], stage: str, recipe: str) -> bool:
    """Whether a stage was completed by this very recipe, and not submitted anew with another since."""
    last = [each for each in found if each["event"] == "end" and each.get("stage") == stage]
    return bool(last) and last[-1].get("status") == "completed" and last[-1].get("recipe") == recipe
