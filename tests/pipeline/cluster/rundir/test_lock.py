"""Fencing: attempts have numbers of their own, the newest has the run, and an older one commits nothing."""

import threading

import pytest

from pipeline.cluster.rundir import RunDir, lock
from pipeline.errors import Fenced, StorageError


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path)


def variables(run, attempt):
    return {"CLIPMILL_RUN_DIR": str(run.path), "CLIPMILL_RUN_ATTEMPT": str(attempt)}


def test_attempts_that_start_at_once_have_numbers_of_their_own(run):
    found, ready = [], threading.Barrier(8)

    def start():
        ready.wait()
        found.append(lock.number(run))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 9))


def test_a_listing_that_is_behind_gives_no_number_twice(run, monkeypatch):
    """NFS tells a client for seconds of what a folder held before."""
    monkeypatch.setattr(lock.os, "listdir", lambda path: [])
    assert [lock.number(run) for _ in range(3)] == [1, 2, 3]


def test_the_newest_attempt_has_the_run(run):
    lock.take(run, 1, "a", "host:1")
    lock.require_ours(variables(run, 1))
    lock.take(run, 2, "b")
    lock.require_ours(variables(run, 2))
    with pytest.raises(Fenced, match=r"attempt 2 \(b, host .*has taken over") as caught:
        lock.require_ours(variables(run, 1))
    assert caught.value.exit_code == 78
    with pytest.raises(Fenced):
        lock.take(run, 1, "a")
    assert lock.holder(run).attempt == 2


def test_an_older_attempt_that_was_late_to_write_takes_nothing(run):
    """Both looked before either wrote: the lock names the older one for a moment."""
    lock.take(run, 1, "a")
    assert lock.overtaken(run, 2) is None
    lock.require_ours(variables(run, 2))


def test_a_lock_that_is_none_stops_a_commit(run):
    run.lock.write_text('{"attempt": 1}')
    with pytest.raises(StorageError, match="is no lock of a run"):
        lock.require_ours(variables(run, 1))


def test_outside_of_a_run_directory_nothing_is_asked():
    lock.require_ours({})
    lock.require_ours({"CLIPMILL_RUN_DIR": "/nowhere"})


def test_a_new_attempt_is_above_all_whose_logs_are_left(run):
    assert [lock.number(run) for _ in range(3)] == [1, 2, 3]
    for old in (1, 2):
        run.attempt_logs(old).rmdir()
    assert lock.number(run) == 4
