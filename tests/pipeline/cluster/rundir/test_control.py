"""What is asked of a run: who asked, and what holds it."""

import pytest

from pipeline.cluster.rundir import RunDir, control


@pytest.fixture
def run(tmp_path):
    (tmp_path / "control").mkdir()
    return RunDir(tmp_path)


def test_a_touched_file_asks_and_holds_nothing(run):
    assert control.asked(run, "stop") is None
    (run.control / "stop").touch()
    assert control.asked(run, "stop") == "" and control.held(run) == ""


def test_a_user_holds_a_run_until_it_is_cleared(run):
    control.ask(run, "stop")
    assert control.asked(run, "stop") == "user" and control.held(run) == "stopped by user"
    control.clear(run, "stop")
    assert control.asked(run, "stop") is None and control.held(run) == ""


def test_a_cancel_holds_whoever_asked(run):
    (run.control / "cancel").touch()
    assert control.held(run) == "cancelled"


def test_a_file_that_cannot_be_read_asks_nothing(run):
    (run.control / "save").mkdir()
    assert control.asked(run, "save") is None
