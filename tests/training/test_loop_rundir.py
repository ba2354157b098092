"""A run that belongs to a run directory: it tells how far it is, does what is asked there, and gives way to a newer
attempt. Two ranks; only the first one looks, and both do the same."""

import json
import time
from pathlib import Path

import pytest

from pipeline.cluster.rundir import RunDir, create
from pipeline.recipe import load
from tests.helpers.tiny_run import metrics, train_here, write_recipe


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    recipe = write_recipe(tmp_path, steps=6, checkpoint={"every_steps": 4})
    return create(tmp_path / "run", load(str(recipe)))


def trained(run: RunDir, **variables: object) -> list[str]:
    environment = {"CLIPMILL_RUN_DIR": run.path, "CLIPMILL_RUN_ATTEMPT": 1, **variables}
    lock = {"attempt": 1, "owner": "a", "host": "h", "pid": 1, "time": 0.0}
    if not run.lock.exists():
        run.lock.write_text(json.dumps(lock))
        run.state.write_text(json.dumps({"stage": "train", "status": "running", "attempt": 1, "owner": "a"}))
    return train_here(run.recipe, 2, environment={name: str(value) for name, value in environment.items()})


def state(run: RunDir) -> dict:
    return json.loads(run.state.read_text())


def saved(run: RunDir) -> list[int]:
    output = run.path.parent / "train/checkpoints"
    return sorted(int(path.name[5:]) for path in output.glob("step-*"))


def test_it_tells_how_far_it_is(run: RunDir) -> None:
    assert trained(run) == ["", ""]
    told, beat = state(run), json.loads(run.heartbeat.read_text())
    assert (told["status"], told["step"], told["steps"], told["samples"]) == ("completed", 6, 6, 96)
    assert told["checkpoint"] == str(run.path.parent / "train/checkpoints/step-00000006")
    assert beat["step"] == 6 and beat["steps"] == 6 and beat["samples"] == 96 and beat["samples_per_s"] > 0
    assert trained(run) == ["", ""] and state(run)["status"] == "completed"


@pytest.mark.parametrize("word", ["stop", "cancel"])
def test_a_stop_that_is_asked_for_is_made_with_a_checkpoint_on_all_ranks(run: RunDir, word: str) -> None:
    (run.control / word).touch()
    words = trained(run)
    assert all("stopped as control/stop asks after step 1 of 6, which is saved" in each for each in words), words
    assert saved(run) == [1] and state(run)["status"] == "stopped" and state(run)["step"] == 1


def test_a_save_that_is_asked_for_is_made_once_and_training_goes_on(run: RunDir) -> None:
    (run.control / "save").touch()
    assert trained(run) == ["", ""]
    assert saved(run) == [1, 4, 6] and not (run.control / "save").exists()


def test_it_stops_before_its_time_is_up(run: RunDir) -> None:
    words = trained(run, CLIPMILL_ENDS_AT=time.time() + 60)
    assert all("stopped before CLIPMILL_ENDS_AT after step 1 of 6" in each for each in words), words
    assert saved(run) == [1]
    assert trained(run, CLIPMILL_ENDS_AT=time.time() + 100_000) == ["", ""] and saved(run) == [1, 4, 6]


def test_an_attempt_that_was_overtaken_saves_and_logs_nothing(run: RunDir) -> None:
    trained(run, CLIPMILL_ENDS_AT=1)
    before = state(run)
    run.lock.write_text(json.dumps({"attempt": 2, "owner": "b", "host": "h", "pid": 1, "time": 0.0}))
    words = trained(run)
    assert all("a newer attempt has taken over" in each for each in words), words
    assert saved(run) == [1] and state(run) == before
    assert [row["step"] for row in metrics(run.path.parent / "train")] == [0]
