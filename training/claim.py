"""One run at a time on one output folder, and what a run finds and leaves there besides checkpoints."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.contract.storage import publish_bytes
from pipeline.errors import StorageError
from pipeline.log import get_logger
from training.agree import on_first_rank
from training.checkpoint.files import storage_errors
from training.peers import Peers

log = get_logger("train")
LOCK = ".lock"


@contextlib.contextmanager
def claimed(output: Path, peers: Peers) -> Iterator[None]:
    """The folder exists and is this run's; StorageError on every rank when another process holds it. Collective.

    The system lets go of the lock when rank 0 ends, however it ends, so nothing has to be cleaned up after a crash.
    """
    held: list[int] = []
    on_first_rank(peers, lambda: held.append(_lock(output)))
    try:
        yield
    finally:
        for handle in held:
            os.close(handle)


def _lock(output: Path) -> int:
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        handle = os.open(output / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 300).decode("utf-8", "replace").strip()
        os.close(handle)
        hint = "wait for it, stop it, or give this run another train.output"
        found = f"another run is at work here ({holder})"
        raise StorageError(str(output), found, "one run for each output", hint) from None
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
            raise
        log.warning("%s: this file system has no locks; take care that no second run uses this folder", output)
    who = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %Z")}
    with storage_errors(output / LOCK):
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(who).encode(), 0)
    return handle


def save_recipe(output: Path, text: str) -> None:
    """recipe.yaml beside the output: what `clipmill export` and a later reader of the folder go by."""
    publish_bytes(str(output / "recipe.yaml"), text.encode())


def set_aside(checkpoints: Path) -> None:
    """`train.fresh`: earlier checkpoints, if any, are in checkpoints.old-N afterwards."""
    if not checkpoints.is_dir():
        return
    number = 1
    while (target := checkpoints.with_name(f"{checkpoints.name}.old-{number}")).exists():
        number += 1
    with storage_errors(checkpoints):
        os.rename(checkpoints, target)
    log.warning("train.fresh: earlier checkpoints are now in %s; starting from step 0", target)

