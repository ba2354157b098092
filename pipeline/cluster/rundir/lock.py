"""Which attempt the run belongs to: the newest one to have started. An older one that still lives commits nothing more.

An attempt is numbered by making its folder of logs, which no two processes can both do on any file system. The lock
then names the highest number. It keeps nobody waiting, since its holder may have lost its node: the newer attempt goes
on at once, and the older one finds itself overtaken when it looks, which it does before every commit (fencing).
"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import storage
from pipeline.cluster.rundir.paths import ATTEMPT, RUN_DIR, RunDir, read_object
from pipeline.errors import Fenced, StorageError


@dataclass(frozen=True)
class Holder:
    """attempt: its number in the run; owner: what the scheduler calls it, the same on all its nodes; address: where
    its first node can be met, "host:port"."""

    attempt: int
    owner: str
    host: str
    pid: int
    time: float
    address: str = ""

    def __str__(self) -> str:
        return f"attempt {self.attempt} ({self.owner}, host {self.host}, process {self.pid})"


def number(run: RunDir) -> int:
    """The number of a new attempt, from 1, nobody else's. Its folder of logs is there afterwards."""
    with storage.storage_errors(run.logs):
        run.logs.mkdir(exist_ok=True)
        taken = [int(name) for name in os.listdir(run.logs) if name.isdigit()]
        attempt = max(taken, default=0) + 1
        while True:
            try:
                run.attempt_logs(attempt).mkdir()
                return attempt
            except FileExistsError:
                attempt += 1


def take(run: RunDir, attempt: int, owner: str, address: str = "") -> Holder:
    """Puts the run into the hands of an attempt. Fenced when a newer one has it already."""
    mine = Holder(attempt, owner, socket.gethostname(), os.getpid(), time.time(), address)
    newer = overtaken(run, attempt)
    if newer is not None:
        raise _fenced(run, newer)
    storage.publish_json(str(run.lock), asdict(mine))
    return mine


def holder(run: RunDir) -> Holder | None:
    """None before the first attempt. StorageError when the lock cannot be read or is none."""
    try:
        found = read_object(run.lock)
    except OSError as error:
        raise StorageError(str(run.lock), f"cannot be read: {error.strerror}", "the lock of the run") from error
    try:
        return None if found is None else Holder(**found)
    except TypeError:
        raise StorageError(str(run.lock), "is no lock of a run", "what an attempt wrote") from None


def overtaken(run: RunDir, attempt: int) -> Holder | None:
    """The newer attempt that has the run now, or None. A lock of an older one (two started at once, and the older was
    the later to write) is no reason to give way."""
    found = holder(run)
    return found if found is not None and found.attempt > attempt else None


def require_ours(environment: Mapping[str, str] = os.environ) -> None:
    """Before every commit: Fenced when this process belongs to an attempt that has been overtaken. Costs one small
    read, and nothing outside of a run directory."""
    folder = environment.get(RUN_DIR)
    if folder is None or ATTEMPT not in environment:
        return
    run = RunDir(Path(folder))
    newer = overtaken(run, int(environment[ATTEMPT]))
    if newer is not None:
        raise _fenced(run, newer)


def _fenced(run: RunDir, newer: Holder) -> Fenced:
    expected = "only the newest attempt commits; this one ends and leaves everything to it"
    return Fenced(str(run.path), f"{newer} has taken over", expected, f"clipmill status {run.path}")
