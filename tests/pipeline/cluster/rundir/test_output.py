"""The lock of an output within a run: an older attempt is waited for and passed over, anybody else is not."""

import pytest

from pipeline.cluster.rundir import output
from pipeline.errors import StorageError
from pipeline.storage import lock


@pytest.fixture
def in_run(monkeypatch):
    monkeypatch.setenv("CLIPMILL_RUN_DIR", "/runs/one")
    monkeypatch.setattr(output, "OLDER_S", 0.3)


def test_outside_of_a_run_it_is_the_lock_and_nothing_else(tmp_path):
    with output.locked(tmp_path) as held:
        assert held
        with pytest.raises(StorageError, match="another run is at work"), output.locked(tmp_path):
            pass


def test_an_older_attempt_that_holds_on_is_passed_over(tmp_path, in_run):
    with output.locked(tmp_path) as held:
        assert held
        with output.locked(tmp_path) as mine:
            assert not mine


def test_somebody_else_is_not_passed_over(tmp_path, in_run, monkeypatch):
    handle, _ = lock.acquired(tmp_path)
    with pytest.raises(StorageError, match="another run is at work"), output.locked(tmp_path):
        pass
    lock.release(handle)
    handle, _ = lock.acquired(tmp_path, "/runs/two")
    with pytest.raises(StorageError), output.locked(tmp_path):
        pass
    lock.release(handle)
    with output.locked(tmp_path) as held:
        assert held
