"""How the nodes of one launch come to the same attempt: node 0 numbers it and takes the lock, the others find it there.

By what they are called alone they might find the attempt of a launch before theirs: Kubernetes may start the pods of a
job again under the names and variables that they had (Kueue evicts a job and lets it go on, a job is suspended and
resumed), and a node 0 that was killed leaves its lock as it was. So a lock that was there before a node looked counts
only once its node 0 is seen to live.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from pipeline.cluster.node.place import Place
from pipeline.cluster.rundir import RunDir, lock
from pipeline.cluster.rundir.lock import Holder
from pipeline.cluster.rundir.paths import read_object, replace_quickly
from pipeline.errors import ClipmillError, Stopped

POLL_S, BEAT_S = 0.1, 1.0


class Here:
    """Node 0, for as long as another one may look for it: a file beside the logs that is written over and over."""

    def __init__(self, run: RunDir, attempt: int, place: Place) -> None:
        self._logs = [run.log(attempt, node) for node in range(1, place.nodes)]
        self._file, self._for_s, self._over = _file(run, attempt), place.join_s, Event()
        self._thread = Thread(target=self._beat, daemon=True)
        if self._logs:
            self._thread.start()

    def _beat(self) -> None:
        began_s, number = time.monotonic(), 0
        while time.monotonic() - began_s < self._for_s and not all(log.exists() for log in self._logs):
            with suppress(OSError):  # the storage is away for a moment
                replace_quickly(self._file, {"number": number})
            number += 1
            if self._over.wait(BEAT_S):
                return

    def end(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()


def attempt_of(run: RunDir, place: Place, asked: Callable[[], int]) -> Holder:
    """Another node waits for node 0 of its launch. `asked`: whether a signal has asked it to stop, which is Stopped.
    ClipmillError where node 0 does not come within join_s."""
    deadline = time.monotonic() + place.join_s
    before = lock.holder(run)
    said = None if before is None else read_object(_file(run, before.attempt))
    while time.monotonic() < deadline and not asked():
        found = lock.holder(run)
        if found is not None and found.owner == place.owner and not run.verdict(found.attempt, 0).exists():
            if found != before or read_object(_file(run, found.attempt)) != said:
                return found
        time.sleep(POLL_S)
    if asked():
        raise Stopped("node", "stopped before the first node had begun", "", "start it again")
    hint = "see what node 0 says; set CLIPMILL_JOIN_S where nodes start at very different times"
    words = f"node 0 of {place.owner} has not begun within {place.join_s:.0f} s"
    raise ClipmillError(f"node {place.rank}", words, "all nodes of an attempt", hint)


def _file(run: RunDir, attempt: int) -> Path:
    return run.attempt_logs(attempt) / "0.here"
