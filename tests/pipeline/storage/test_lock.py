"""A lock that is refused by the file system is told apart from one that another run holds."""

import errno
import fcntl
import os

import pytest

from pipeline.errors import StorageError
from pipeline.storage.lock import Busy, acquire, acquired, locked, release


def refusing(monkeypatch, number: int) -> None:
    def flock(handle, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EWOULDBLOCK])
def test_a_file_system_without_locks_is_said_to_be_one_and_holds_nobody_up(tmp_path, monkeypatch, caplog, number):
    """Busy for a file that nobody else knows is no other run, either."""
    refusing(monkeypatch, number)
    with locked(tmp_path) as held:
        assert held is False
    said = caplog.text
    assert (
        "another run" not in said and errno.errorcode[number] in said and "-o flock" in said and str(tmp_path) in said
    )
    assert os.listdir(tmp_path) == [".lock"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_any_other_refusal_is_an_error_that_names_the_file_and_what_flock_said(tmp_path, monkeypatch, number):
    refusing(monkeypatch, number)
    said = rf"\.lock: flock was refused: .*{errno.errorcode[number]}.*\nhint: "
    with pytest.raises(StorageError, match=said), locked(tmp_path):
        pass


def test_a_held_lock_is_still_another_run(tmp_path):
    handle = acquire(tmp_path)
    with pytest.raises(StorageError, match="another run is at work here"), locked(tmp_path):
        pass
    release(handle)
    with locked(tmp_path) as held:
        assert held is True


def test_who_holds_a_lock_says_so_in_words_of_its_own(tmp_path):
    release(acquired(tmp_path, of="a run directory with a long name")[0])
    handle = acquire(tmp_path)
    with pytest.raises(Busy, match=f"process {os.getpid()}") as busy:
        acquire(tmp_path)
    assert busy.value.of == ""
    release(handle)
