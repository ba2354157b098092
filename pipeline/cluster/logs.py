"""`clipmill logs`: the words of all attempts in a row, and behind them what only the scheduler has of the run.

A container has said something before its wrapper opened a log, and where the run directory is one that only the pods
see, all of its words are with the scheduler. What stands in the logs is not said again.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.cluster.rundir import RunDir, read_state
from pipeline.cluster.schedulers import SCHEDULERS, Said
from pipeline.cluster.showing import submitted
from pipeline.errors import ClipmillError

FOLLOW_S, ASK_S = 1.0, 10.0
"""Seconds between two looks at the run directory, and between two questions to the scheduler."""
_OVERLAP_S = 60.0
"""So much of what was asked for is asked for again: clocks differ, and an answer takes its time."""
_OVERLAP = 1 << 16  # bytes of a log: as much as is written in that time


def print_logs(
    run: RunDir, node: int, only: int | None, follow: bool, write: Callable[[str], Any] | None = None
) -> None:
    """`only`: of that attempt, and nothing of the scheduler's. `follow`: until the run has ended: completed, failed for
    good, or held by a user. `write`: default, to stdout."""
    page, behind, end = _Page(write or sys.stdout.write), _Behind(run), _End(run)
    shown: dict[int, int] = {}
    while True:
        over = not follow or end.has_come()  # asked first: what is written until then is shown
        for attempt in _numbers(run, only):
            path = run.log(attempt, node)
            if not path.exists():
                continue
            with open(path, "rb") as file:
                file.seek(shown.get(attempt, 0))
                data = file.read()
            if attempt not in shown or data:
                heading = f"attempt {attempt}, node {node}: {path}" if only is None else ""
                page.add(heading, data.decode(errors="replace"))
            shown[attempt] = shown.get(attempt, 0) + len(data)
        if only is None and (over or behind.is_due()):
            for heading, line in behind.new():
                page.add(heading, line)
        if over:
            return
        time.sleep(FOLLOW_S)


class _Page:
    """Text under headings; one is written where it differs from that before. "": none."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self._write, self._heading, self._is_open = write, "", False

    def add(self, heading: str, text: str) -> None:
        if heading != self._heading:
            self._write(("\n" if self._is_open else "") + f"--- {heading}\n")
            self._is_open = False
        self._heading = heading
        if text:
            self._write(text)
            self._is_open = not text.endswith("\n")


class _Behind:
    """What the scheduler has of a run and no log in its directory has; each line once."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._told: dict[str, str] = {}  # source: the stamp of its last line
        self._read: dict[Path, int] = {}
        self._asked_s = -ASK_S
        self._heard_s: float | None = None
        self._refused = False

    def is_due(self) -> bool:
        return time.monotonic() - self._asked_s >= ASK_S

    def new(self) -> list[tuple[str, str]]:
        """(heading, line). A scheduler that cannot be asked is no reason to show nothing: that is said, once."""
        found: list[tuple[str, str]] = []
        self._asked_s = now_s = time.monotonic()
        for on, ids in submitted(self._run):
            within_s = None if self._heard_s is None else now_s - self._heard_s + _OVERLAP_S
            try:
                said = SCHEDULERS[on].said(self._run, ids, within_s)
            except ClipmillError as error:
                if not self._refused:
                    found.append((f"what only {on} knows cannot be shown: {error}".splitlines()[0], ""))
                self._refused = True
                continue
            self._heard_s = now_s
            fresh = self._not_told(said)
            known = self._logged({each.text for each in fresh})
            left = [each for each in fresh if each.text not in known]
            found += [(f"in no log, from {on}: {each.source}", f"{each.text}\n") for each in left]
        return found

    def _not_told(self, said: list[Said]) -> list[Said]:
        fresh: dict[str, list[Said]] = {}
        for each in said:
            lines = fresh.setdefault(each.source, [])
            if each.stamp == self._told.get(each.source):
                lines.clear()  # it and all before it were told
            else:
                lines.append(each)
        for source, lines in fresh.items():
            if lines:
                self._told[source] = lines[-1].stamp
        return [each for lines in fresh.values() for each in lines]

    def _logged(self, lines: set[str]) -> set[str]:
        """Those of `lines` that are in a log of the run directory, whichever node's."""
        found: set[str] = set()
        if not lines:
            return found
        for path in sorted(self._run.logs.glob("[0-9]*/*.log")):
            with open(path, "rb") as file:
                file.seek(max(0, self._read.get(path, 0) - _OVERLAP))
                for line in file:
                    text = line.decode(errors="replace").removesuffix("\n")
                    if text in lines:
                        found.add(text)
                self._read[path] = file.tell()
        return found


def _numbers(run: RunDir, only: int | None) -> list[int]:
    if only is not None:
        return [only]
    return (
        sorted(int(path.name) for path in run.logs.glob("[0-9]*") if path.name.isdigit()) if run.logs.exists() else []
    )


class _End:
    """Whether no more words can come: by the state of the run and by its jobs. Where the run directory says nothing,
    or that the run goes on, the jobs alone can tell that nobody works at it any more."""

    def __init__(self, run: RunDir) -> None:
        self._run, self._asked_s = run, -ASK_S

    def has_come(self) -> bool:
        state = read_state(self._run)
        runs = state is None or state.status == "running"
        if time.monotonic() - self._asked_s < (ASK_S if runs else 2 * FOLLOW_S):
            return False
        self._asked_s = time.monotonic()
        jobs = [job for on, ids in submitted(self._run) for job in SCHEDULERS[on].jobs(self._run, ids)]
        if not runs:
            return not any(job.state in ("waiting", "running") for job in jobs)
        # One that is gone for a reason is one that could not be asked for.
        ended = [job.state in ("done", "failed") or (job.state == "gone" and not job.reason) for job in jobs]
        return bool(jobs) and all(ended)
