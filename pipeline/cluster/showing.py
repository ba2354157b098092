"""What `status` shows: one table of words for all schedulers."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cluster.rundir import RunDir, State, attempts, control, read_state
from pipeline.cluster.rundir.heartbeat import Beat, read_beat
from pipeline.cluster.schedulers import SCHEDULERS, Job

QUIET_S = 60.0
"""A heartbeat that is older is shown with its age."""


@dataclass(frozen=True)
class Status:
    """One run. `state`: waiting, running, stopped, completed, failed, cancelled; `why`: in words, why it does not run
    or how it fares."""

    run: str
    on: str
    state: str
    stage: str = ""
    attempt: int | None = None
    step: int | None = None
    steps: int | None = None
    samples_per_s: float | None = None
    eta_s: float | None = None
    checkpoint: str | None = None
    heartbeat_age_s: float | None = None
    why: str = ""
    jobs: tuple[Job, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "jobs": [vars(job) for job in self.jobs]}


def submitted(run: RunDir) -> list[tuple[str, list[str]]]:
    """(scheduler, its job ids) of the last submission, with the jobs that wait to go on in place of those."""
    found = attempts.events(run)
    at = max((at for at, each in enumerate(found) if _is_submission(each)), default=None)
    if at is None:
        return []
    jobs = [str(job) for job in found[at].get("jobs", ())]
    for each in found[at + 1 :]:
        job = str(each.get("job"))
        if each["event"] == "successor" and str(each.get("of")) in jobs:
            jobs.append(job)
        elif each["event"] == "no successor" and job in jobs:
            jobs.remove(job)
    return [(found[at]["on"], jobs)]


def _is_submission(event: attempts.Event) -> bool:
    return event["event"] == "submitted" and event.get("on") in SCHEDULERS


def status_of(run: RunDir) -> Status:
    """From the run directory, and what the scheduler says; works where only one of them can be asked."""
    on, jobs = "", []
    for on, ids in submitted(run):
        jobs = SCHEDULERS[on].jobs(run, ids)
    state, beat = read_state(run), read_beat(run)
    if state is None:
        return Status(str(run.path), on, *_before_the_first(run, jobs), jobs=tuple(jobs))
    mine = beat if beat is not None and beat.attempt == state.attempt and beat.stage == state.stage else None
    age_s = None if mine is None else max(0.0, time.time() - mine.time)
    running = state.status == "running" and bool(mine)
    return Status(
        str(run.path), on, _word(run, state, jobs), state.stage, state.attempt,
        step=mine.step if mine and (running or state.stage != "train") else state.step,
        steps=mine.steps if mine and mine.steps else state.steps,
        samples_per_s=mine.samples_per_s if running and mine else None,
        eta_s=mine.eta_s if running and mine else None,
        checkpoint=state.checkpoint,
        heartbeat_age_s=age_s if state.status == "running" else None,
        why=_why(run, state, mine, age_s, jobs),
        jobs=tuple(jobs),
    )  # fmt: skip


def _before_the_first(run: RunDir, jobs: list[Job]) -> tuple[str, str]:
    waiting = [job for job in jobs if job.state == "waiting"]
    return ("cancelled" if control.asked(run, "cancel") is not None else "waiting"), waiting[0].stage if waiting else ""


def _word(run: RunDir, state: State, jobs: list[Job]) -> str:
    if control.asked(run, "cancel") is not None and state.status != "completed":
        return "cancelled"
    if state.status == "running" and jobs and all(job.state in ("done", "failed", "gone") for job in jobs):
        return "gone"
    if state.status in ("stopped", "failed") and any(job.state == "waiting" for job in jobs):
        return "waiting"
    return state.status


def _why(run: RunDir, state: State, beat: Beat | None, age_s: float | None, jobs: list[Job]) -> str:
    reasons = [f"{job.stage} {job.id}: {job.reason}".strip() for job in jobs if job.reason]
    if _word(run, state, jobs) == "gone":
        reasons.insert(0, "it ended without a word: submit it again")
    elif state.status == "running":
        if beat is None:
            reasons.insert(0, "starting")
        elif beat.phase:
            reasons.insert(0, beat.phase)
        if age_s is not None and age_s > QUIET_S:
            reasons.insert(0, f"no heartbeat for {_seconds(age_s)}")
    elif state.message:
        reasons.insert(0, state.message.splitlines()[0])
    if control.asked(run, "stop"):
        reasons.append("asked to stop")
    return "; ".join(reasons)


HEADS = ("run", "on", "state", "stage", "attempt", "step", "samples/s", "left", "checkpoint", "why")


def rows_of(found: list[Status]) -> list[tuple[str, ...]]:
    """In words, as `HEADS` names them."""
    rows: list[tuple[str, ...]] = []
    for each in found:
        step = "" if each.step is None else f"{each.step:,}" + (f" of {each.steps:,}" if each.steps else "")
        speed = "" if each.samples_per_s is None else f"{each.samples_per_s:,.0f}"
        left = "" if each.eta_s is None else _seconds(each.eta_s)
        last = Path(each.checkpoint).name if each.checkpoint else ""
        attempt = "" if each.attempt is None else str(each.attempt)
        rows.append((each.run, each.on, each.state, each.stage, attempt, step, speed, left, last, each.why))
    return rows


def _seconds(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
