"""The lock of an output, as an attempt takes it: an older attempt of the same run does not keep it out for long."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.cluster.rundir.feed import run_here
from pipeline.log import get_logger
from pipeline.storage import lock

log = get_logger("run")
OLDER_S = 20.0
"""An older attempt that lives sees within two seconds and a step that it is overtaken, and lets go."""


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """As pipeline.storage.lock.locked. Gives False, too, where an older attempt of the run that this process belongs to
    holds the lock and does not let go: it is frozen, or its node is lost; the run directory keeps it from committing.
    """
    taken = acquire(folder)
    if taken is None:
        yield False
        return
    handle, held = taken
    try:
        yield held
    finally:
        lock.release(handle)


def acquire(folder: Path) -> tuple[int, bool] | None:
    """(handle to release, whether the file system has locks), or None where an older attempt is passed over.
    StorageError naming host and process when anything else holds it."""
    deadline = time.monotonic() + OLDER_S
    while True:
        try:
            return lock.acquired(folder, run_here())
        except lock.Busy as busy:
            if not run_here() or busy.of != run_here():
                raise
            if time.monotonic() > deadline:
                log.warning("%s: %s; it is an older attempt, which is passed over", folder, busy.found)
                return None
        time.sleep(0.2)
