"""What follows from the events of a run: failures in a row, and what was completed."""

import pytest

from pipeline.cluster.rundir import RunDir, attempts


def start(attempt, step=0, stage="train"):
    return {"event": "start", "attempt": attempt, "stage": stage, "step": step}


def end(attempt, status="failed", step=0, stage="train", **more):
    return {"event": "end", "attempt": attempt, "stage": stage, "status": status, "step": step, **more}


def has(event, **committed):
    return {**event, "committed": committed}


@pytest.mark.parametrize(("events", "count"), [
    ([], 0),
    ([start(1), end(1), start(2), end(2)], 2),
    ([start(1), end(1), start(2), end(2, step=5), start(3, 5), end(3, step=5)], 1),  # progress forgives
    ([start(1), end(1), start(2), end(2, "stopped", asked=True), start(3), end(3)], 2),  # a stop is no failure
    ([start(1), end(1), start(2), end(2, "stopped", asked=False)], 2),  # one that nobody asked for is
    ([start(1), start(2), start(3)], 2),  # cut off twice, under way now
    ([start(1), start(2, 5), end(2, step=5)], 1),  # it was cut off after a checkpoint
    ([start(1), end(1), {"event": "submitted"}, start(2), end(2)], 1),  # by hand again
    ([start(1), end(1), {"event": "successor"}, start(2), end(2)], 2),  # the same submission, as another job
    ([start(1, stage="curate"), end(1, stage="curate"), start(2)], 0),  # of another stage
])  # fmt: skip
def test_failures_in_a_row_without_progress(events, count):
    assert attempts.failures_in_a_row(events, "train") == count


@pytest.mark.parametrize(("events", "count"), [
    ([has(start(1), parts=0), has(start(2), parts=3), has(start(3), parts=5)], 0),  # cut off twice, never in vain
    ([has(start(1), parts=3), has(start(2), parts=3), has(start(3), parts=3)], 2),
    ([has(start(1), parts=3), has(end(1), parts=4), has(start(2), parts=4), has(end(2), parts=4)], 1),
    ([has(start(1), parts=3), end(1, "stopped", asked=True), has(start(2), parts=9), has(end(2), parts=9)], 1),
    ([has(start(1), parts=3), has(end(1), parts=2)], 1),  # one was damaged
    ([has(start(1), parts=3, runs=9), has(end(1), parts=3)], 1),  # removed, having served
    ([has(start(1), parts=3, runs=9), has(end(1), parts=3, joined=1)], 0),
    ([has(start(1), parts=3), {**end(1), "committed": None}], 1),  # the storage did not say
    ([{**start(1), "committed": None}, has(end(1), parts=3)], 1),
    ([start(1), has(end(1), parts=3)], 1),  # of an older version
])  # fmt: skip
def test_what_a_curation_has_committed_is_progress(events, count):
    assert attempts.failures_in_a_row(events, "train") == count


def test_a_stage_is_completed_by_its_own_recipe_only():
    events = [start(1), end(1, "completed", recipe="aa")]
    assert attempts.completed(events, "train", "aa")
    assert not attempts.completed(events, "train", "bb") and not attempts.completed(events, "eval", "aa")
    both = [*events, start(2), end(2, "completed", recipe="bb")]
    assert attempts.completed(both, "train", "bb") and not attempts.completed(both, "train", "aa")
    assert not attempts.completed([*events, start(2), end(2, "failed", recipe="aa")], "train", "aa")


def test_events_are_appended_and_a_line_that_was_cut_costs_no_other(tmp_path):
    run = RunDir(tmp_path)
    attempts.note(run, "start", attempt=1)
    with open(run.attempts, "a") as file:
        file.write('{"event": "end", "att')
    attempts.note(run, "start", attempt=2)
    assert [each["attempt"] for each in attempts.events(run)] == [1, 2]
    assert attempts.events(RunDir(tmp_path / "none")) == []
