"""The nodes of one launch come to one attempt: that of a node 0 that lives, never one that a launch before left."""

import threading
import time

import pytest

from pipeline.cluster.node import meeting
from pipeline.cluster.node.meeting import Here, attempt_of
from pipeline.cluster.node.place import Place
from pipeline.cluster.rundir import RunDir, lock
from pipeline.errors import ClipmillError, Stopped
from tests.helpers.nodes import until

FIRST, OTHER = Place(0, 2, "one", join_s=20), Place(1, 2, "one", join_s=20)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "BEAT_S", 0.05)
    monkeypatch.setattr(meeting, "POLL_S", 0.01)
    found = RunDir(tmp_path)
    lock.take(found, lock.number(found), "one", "n1:1")
    return found


def looking(run, place=OTHER):
    """(what a node has found, the thread in which it looks)"""
    found = []
    thread = threading.Thread(target=lambda: found.append(attempt_of(run, place, lambda: 0)), daemon=True)
    thread.start()
    return found, thread


def test_a_node_that_comes_later_finds_the_first_one_alive(run):
    here = Here(run, 1, FIRST)
    found, thread = looking(run)
    thread.join(10)
    here.end()
    assert [(each.attempt, each.address) for each in found] == [(1, "n1:1")]


@pytest.mark.parametrize("left", [None, 7], ids=["no word of it", "its last word"])
def test_what_a_launch_of_the_same_name_has_left_is_not_joined(run, left):
    if left is not None:
        (run.attempt_logs(1) / "0.here").write_text(f'{{"number": {left}}}')
    found, thread = looking(run)
    time.sleep(0.3)
    assert not found and thread.is_alive()
    lock.take(run, lock.number(run), "one", "n1:2")  # now node 0 comes
    thread.join(10)
    assert [(each.attempt, each.address) for each in found] == [(2, "n1:2")]


def test_nodes_of_another_launch_are_not_met(run):
    with pytest.raises(ClipmillError, match="node 0 of two has not begun within 0 s"):
        attempt_of(run, Place(1, 2, "two", join_s=0.2), lambda: 0)
    with pytest.raises(Stopped):
        attempt_of(run, OTHER, lambda: 15)


def test_node_0_is_seen_until_all_have_come(run):
    here, seen = Here(run, 1, FIRST), run.attempt_logs(1) / "0.here"
    until(seen.exists)
    run.log(1, 1).touch()
    time.sleep(0.3)
    before = seen.stat().st_mtime_ns
    time.sleep(0.3)
    assert seen.stat().st_mtime_ns == before
    here.end()
    alone = Here(run, 1, Place(0, 1, "one"))
    alone.end()
