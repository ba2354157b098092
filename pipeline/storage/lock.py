"""One run at a time on one output: a lock file that the kernel lets go of when its holder dies, however it dies."""

import errno
import fcntl
import json
import os
import socket
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
_NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds <folder>/.lock, and makes the folder. StorageError naming host and process when another run holds it.

    The lock is flock's: sure between processes of one machine and on network file systems that pass it on.
    """
    handle = acquire(folder)
    try:
        yield
    finally:
        release(handle)


def acquire(folder: Path) -> int:
    """As `locked`, for holders that are no `with` block; `release` what it returns."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(handle, folder)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %Z")}
        with storage_errors(folder / LOCK):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(holder).encode(), 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def release(handle: int) -> None:
    """The file stays, because removing it would race with the next holder."""
    os.close(handle)


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        found = f"another run is at work here: {_holder(handle)}"
        hint = "wait for it, stop it (it can be resumed), or give this run another output"
        raise StorageError(str(folder), found, "one run at a time on one output", hint) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; take care that no second run uses this folder", folder)


def _holder(handle: int) -> str:
    holder = json_object(os.pread(handle, 4096, 0)) or {}
    if not {"host", "pid", "since"} <= set(holder):
        return "it has not yet said who it is"
    return f"host {holder['host']}, process {holder['pid']}, since {holder['since']}"
