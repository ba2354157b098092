"""The output folder of a run: held by one run at a time, and what a run finds and leaves there besides checkpoints."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline import storage
from pipeline.log import get_logger
from pipeline.outputs import RECIPE
from pipeline.storage import lock
from training.ranks.agreement import on_first_rank
from training.ranks.peers import Peers

log = get_logger("train")


@contextlib.contextmanager
def claimed(output: Path, peers: Peers) -> Iterator[None]:
    """The folder exists and is this run's; StorageError on every rank when another process holds it. Collective.

    The system lets go of the lock when rank 0 ends, however it ends, so nothing has to be cleaned up after a crash.
    """
    held: list[int] = []
    on_first_rank(peers, lambda: held.append(lock.acquire(output)))
    try:
        yield
    finally:
        for handle in held:
            lock.release(handle)


def save_recipe(output: Path, text: str) -> None:
    """recipe.yaml beside the output: what `clipmill export` and a later reader of the folder go by."""
    storage.publish_bytes(str(output / RECIPE), text.encode())


def set_aside(checkpoints: Path) -> None:
    """`train.fresh`: earlier checkpoints, if any, are in checkpoints.old-N afterwards."""
    if not checkpoints.is_dir():
        return
    number = 1
    while (target := checkpoints.with_name(f"{checkpoints.name}.old-{number}")).exists():
        number += 1
    with storage.storage_errors(checkpoints):
        os.rename(checkpoints, target)
    log.warning("train.fresh: earlier checkpoints are now in %s; starting from step 0", target)
