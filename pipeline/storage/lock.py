"""One run at a time on one output: a lock file that the kernel lets go of when its holder dies, however it dies.

A file system may have no such locks (Lustre mounted without `flock`, NFS without its lock service, some FUSE): that is
said, with what to do, and is no other run.
"""

import errno
import fcntl
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StorageError
from pipeline.log import get_logger
from pipeline.storage.refusals import storage_errors
from pipeline.storage.state import json_object

log = get_logger("storage")
LOCK = ".lock"
_NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS)
_TRIAL = ".tmp-000000000000-lock-"  # as `publish` names what it writes aside: known as ours, should it be left


class Busy(StorageError):
    """Another run holds the lock; `of`: the run directory that it belongs to, "" where it has none."""

    of = ""


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds <folder>/.lock, and makes the folder. StorageError naming host and process when another run holds it.
    Gives False where the file system has no locks, which is warned of: then nobody else is kept out.

    The lock is flock's: sure between processes of one machine and on network file systems that pass it on.
    """
    handle, held = acquired(folder)
    try:
        yield held
    finally:
        release(handle)


def acquire(folder: Path) -> int:
    """As `locked`, for holders that are no `with` block; `release` what it returns."""
    return acquired(folder)[0]


def acquired(folder: Path, of: str = "") -> tuple[int, bool]:
    """(handle for `release`, whether it is held); `of`: what whoever finds it busy is told, as `Busy.of`."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        held = _take(handle, folder)
        holder: dict[str, object] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        }
        holder |= {"of": of} if of else {}
        with storage_errors(folder / LOCK):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(holder).encode(), 0)
    except BaseException:
        os.close(handle)
        raise
    return handle, held


def release(handle: int) -> None:
    """The file stays, because removing it would race with the next holder."""
    os.close(handle)


def _take(handle: int, folder: Path) -> bool:
    """Whether the lock is held; False when the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError as error:
        if _can_lock(folder):
            found = f"another run is at work here: {_holder(handle)}"
            hint = "wait for it, stop it (it can be resumed), or give this run another output"
            busy = Busy(str(folder), found, "one run at a time on one output", hint)
            busy.of = str((json_object(os.pread(handle, 4096, 0)) or {}).get("of", ""))
            raise busy from None
        refused: OSError = error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            hint = "see that the file system is up and its locks work, or give this run another output"
            found = f"flock was refused: {os.strerror(error.errno or 0)} ({errno.errorcode.get(error.errno or 0, '')})"
            raise StorageError(str(folder / LOCK), found, "a lock on the output", hint) from None
        refused = error
    log.warning(
        "%s: this file system has no locks (flock says %s: %s), so a second run here is not kept out. Mount it with "
        "locks (Lustre: -o flock; NFS: with its lock service), or see to it that one run at a time uses this folder",
        folder,
        errno.errorcode.get(refused.errno or 0, "no"),
        refused.strerror,
    )
    return False


def _can_lock(folder: Path) -> bool:
    """Whether a file that nobody else knows can be locked: some file systems answer "busy" to every flock."""
    with storage_errors(folder), tempfile.NamedTemporaryFile(prefix=_TRIAL, dir=folder) as trial:
        try:
            fcntl.flock(trial, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _holder(handle: int) -> str:
    holder = json_object(os.pread(handle, 4096, 0)) or {}
    if not {"host", "pid", "since"} <= set(holder):
        return "it has not yet said who it is"
    return f"host {holder['host']}, process {holder['pid']}, since {holder['since']}"
