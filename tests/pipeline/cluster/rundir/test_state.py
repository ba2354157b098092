"""state.json: changed field by field, by the newest attempt only, and never read half written or misread."""

import json

import pytest

from pipeline.cluster.rundir import RunDir, lock, read_state, write_state
from pipeline.errors import DataError


def test_fields_are_changed_one_by_one(tmp_path):
    run = RunDir(tmp_path)
    assert read_state(run) is None
    assert write_state(run, 1, stage="train", status="running", owner="a", step=3, checkpoint="c")
    assert write_state(run, 1, status="failed", **{"class": "hang"}, message="silent", exit_code=1)
    found = json.loads(run.state.read_text())
    assert found["format_version"] == 1 and found["class"] == "hang" and found["step"] == 3 and found["owner"] == "a"


def test_the_next_attempt_keeps_what_was_saved_and_forgets_how_the_last_one_ended(tmp_path):
    run = RunDir(tmp_path)
    write_state(
        run, 1, stage="train", status="failed", owner="a", step=3, message="x", exit_code=1, **{"class": "hang"}
    )
    write_state(run, 2, stage="train", status="running", owner="b")
    found = read_state(run)
    assert (found.step, found.fault, found.message, found.exit_code, found.attempt) == (3, None, "", None, 2)
    write_state(run, 3, stage="eval", status="running", owner="c")
    assert read_state(run).step == 0


def test_an_attempt_that_was_overtaken_writes_nothing(tmp_path):
    run = RunDir(tmp_path)
    write_state(run, 2, stage="train", status="running", owner="b")
    lock.take(run, 2, "b")
    assert not write_state(run, 1, stage="train", status="completed", owner="a")
    assert read_state(run).status == "running"


def test_a_state_of_another_format_is_not_guessed_at(tmp_path):
    run = RunDir(tmp_path)
    run.state.write_text('{"format_version": 2, "stage": "train", "status": "running", "attempt": 1, "owner": "a"}')
    with pytest.raises(DataError, match="format_version"):
        read_state(run)
