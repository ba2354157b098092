"""One run at a time on one output: a lock file that the kernel lets go of when its holder dies, however it dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StorageError, UsageError

LOCK = "_lock"


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Holds <output>/_lock. UsageError naming host and process when another run holds it.

    The lock is flock's: sure between processes of one machine and on network file systems that pass it on.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        fd = os.open(output / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(str(output), f"cannot be written: {error.strerror}", "a folder of ours") from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            found = f"another run is at work on it: {_holder(fd)}"
            hint = "wait for it, or stop it; it can be resumed"
            raise UsageError(str(output), found, "one run at a time", hint) from None
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode()
        os.ftruncate(fd, 0)
        os.pwrite(fd, holder, 0)
        yield
    finally:
        os.close(fd)  # lets go; the file stays, because removing it would race with the next holder


def _holder(fd: int) -> str:
    try:
        told = json.loads(os.pread(fd, 4096, 0))
        return f"host {told['host']}, pid {told['pid']}"
    except (ValueError, KeyError, TypeError):
        return "it has not yet said who it is"
