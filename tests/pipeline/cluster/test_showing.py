"""`status`: the same words whoever runs it, from what lies in the run directory."""

import json
import os
import time
from dataclasses import replace

import pytest

from pipeline.cluster.node.alive import Process
from pipeline.cluster.rundir import attempts, control, write_state
from pipeline.cluster.showing import HEADS, rows_of, status_of, submitted
from tests.helpers.nodes import fake_run


@pytest.fixture
def run(tmp_path):
    return fake_run(tmp_path)


def running(run, age_s=0.0):
    attempts.note(run, "submitted", on="local", jobs=[str(Process.of(os.getpid()))])
    write_state(run, 1, stage="train", status="running", owner="a", step=6, steps=100, checkpoint="/r/step-00000006")
    beat = {"attempt": 1, "stage": "train", "step": 8, "steps": 100, "samples": 128, "samples_per_s": 1234.5,
            "eta_s": 7200, "time": time.time() - age_s}  # fmt: skip
    run.heartbeat.write_text(json.dumps(beat))


def row(run):
    return dict(zip(HEADS, rows_of([status_of(run)])[0], strict=True))


def test_a_run_that_trains(run):
    running(run)
    found = row(run)
    assert (found["state"], found["on"], found["stage"], found["attempt"]) == ("running", "local", "train", "1")
    assert (found["step"], found["samples/s"], found["left"]) == ("8 of 100", "1,234", "2 h")
    assert (found["checkpoint"], found["why"]) == ("step-00000006", "")


def test_a_heartbeat_that_stopped_is_told_with_its_age(run):
    running(run, age_s=600)
    assert row(run)["why"] == "no heartbeat for 10 min"


def test_a_run_whose_process_is_gone_is_not_said_to_run(run):
    running(run)
    attempts.note(run, "submitted", on="local", jobs=[str(replace(Process.of(os.getpid()), began="1"))])
    assert row(run)["state"] == "gone" and "submit it again" in row(run)["why"]


def test_a_run_before_its_first_attempt_waits(run):
    assert row(run)["state"] == "waiting"


def test_a_failed_run_says_why_in_one_line(run):
    running(run)
    write_state(run, 1, status="failed", **{"class": "data"}, message="shard-1.tar: is cut\nhint: x", exit_code=78)
    found = row(run)
    assert (found["state"], found["why"], found["step"]) == ("failed", "shard-1.tar: is cut", "6 of 100")


def test_a_cancelled_run_is_cancelled_and_a_held_one_asked_to_stop(run):
    running(run)
    control.ask(run, "stop")
    assert row(run)["why"] == "asked to stop"
    control.ask(run, "cancel")
    assert row(run)["state"] == "cancelled"


def test_the_json_has_every_field(run):
    running(run)
    found = json.loads(json.dumps(status_of(run).as_dict()))
    assert found["step"] == 8 and found["eta_s"] == 7200 and found["jobs"][0]["state"] == "running"


def test_the_jobs_of_a_run_are_those_of_the_last_submission_and_their_successors(run):
    """As slurm/lib.sh writes them: with a line feed before, should the line before have been cut."""
    assert submitted(run) == []
    attempts.note(run, "submitted", on="slurm", jobs=["5"])
    attempts.note(run, "submitted", on="slurm", jobs=["7", "8"])
    of = [(5, 6, "successor"), (7, 9, "successor"), (9, 10, "successor"), (8, 11, "successor"), (8, 11, "no successor")]
    with open(run.attempts, "a") as file:
        for before, job, event in of:
            file.write(f'\n{{"event": "{event}", "on": "slurm", "of": "{before}", "job": "{job}", "time": 1}}\n')
    assert submitted(run) == [("slurm", ["7", "8", "9", "10"])]
    assert attempts.failures_in_a_row(attempts.events(run), "train") == 0
