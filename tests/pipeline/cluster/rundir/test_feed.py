"""What rank 0 tells its run directory: seldom enough for shared storage, and never at the price of the run."""

import json
import shutil
import time

import pytest

from pipeline.cluster.rundir import RunDir, lock, write_state
from pipeline.cluster.rundir import feed as feed_module
from pipeline.cluster.rundir.feed import CONTROL, LIMIT, OVERTAKEN, Feed, RunFeed, feed_of


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "r")
    run.control.mkdir(parents=True)
    lock.take(run, 1, "a")
    write_state(run, 1, stage="train", status="running", owner="a")
    return run


def test_outside_of_a_run_directory_and_on_other_ranks_it_is_silent(run):
    variables = {"CLIPMILL_RUN_DIR": str(run.path), "CLIPMILL_RUN_ATTEMPT": "1"}
    assert type(feed_of("train", 0, {})) is Feed and type(feed_of("train", 1, variables)) is Feed
    assert feed_of("train", 0, variables).is_live
    silent = Feed()
    silent.beat(1)
    silent.tell(status="x")
    assert (silent.asked(), silent.save_asked(), silent.was_overtaken()) == (0, False, False)


def test_a_heartbeat_is_written_twice_a_second_at_most(run):
    clock = Clock()
    feed = RunFeed(run, 1, "train", None, clock)
    for step in range(1, 7):
        feed.beat(step)
        assert json.loads(run.heartbeat.read_text())["step"] == step - (step + 1) % 2
        clock.now += 0.25
    feed.beat(7, samples=176)
    found = json.loads(run.heartbeat.read_text())
    assert (found["step"], found["samples"], found["attempt"]) == (7, 176, 1)


def test_it_looks_every_two_seconds_and_no_sooner(run):
    clock = Clock()
    feed = RunFeed(run, 1, "train", None, clock)
    assert feed.asked() == 0
    (run.control / "stop").touch()
    (run.control / "save").touch()
    clock.now += 1.9
    assert feed.asked() == 0 and not feed.save_asked()
    clock.now += 0.2
    assert feed.asked() == CONTROL and feed.save_asked()
    feed.saved(step=5)
    assert not feed.save_asked() and not (run.control / "save").exists()
    assert json.loads(run.state.read_text())["step"] == 5


@pytest.mark.parametrize("word", ["stop", "cancel"])
def test_either_word_stops_it_and_reaches_whoever_notes_signals(run, monkeypatch, word):
    asked = []
    monkeypatch.setattr(feed_module, "ask_stop", lambda: asked.append(word))
    feed = RunFeed(run, 1, "curate", None, clock := Clock())
    feed.task(1, 9, "ingest")
    assert not asked
    (run.control / word).touch()
    clock.now += 2
    feed.task(2, 9, "ingest")
    assert asked == [word] and feed.asked() == CONTROL


def test_a_newer_attempt_outweighs_every_other_reason(run):
    feed = RunFeed(run, 1, "train", time.time(), Clock())
    (run.control / "stop").touch()
    lock.take(run, 2, "b")
    assert feed.asked() == OVERTAKEN > LIMIT > CONTROL and feed.was_overtaken()
    feed.tell(step=9)
    assert json.loads(run.state.read_text())["step"] == 0


def test_the_time_that_is_left_counts_what_stopping_takes(run):
    feed = RunFeed(run, 1, "train", time.time() + 100, Clock())
    assert feed.asked(50) == 0 and feed.asked(120) == LIMIT


def test_storage_that_goes_away_is_warned_of_once_and_stops_nothing(run, caplog):
    feed = RunFeed(run, 1, "train", None, clock := Clock())
    shutil.rmtree(run.path)
    run.path.write_text("a file in its place")
    for step in (1, 2, 3):
        feed.beat(step)
        feed.tell(step=step)
        assert feed.asked() == 0
        clock.now += 5
    assert caplog.text.count("the run goes on") == 1
