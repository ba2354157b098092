"""The output folder of a run: held by one run at a time, and what a run finds and leaves there besides checkpoints."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline import storage
from pipeline.cluster.rundir.output import acquire
from pipeline.errors import DataError
from pipeline.log import get_logger
from pipeline.outputs import CHECKPOINTS, EVALS, METRICS, RECIPE, SAVED
from pipeline.storage.lock import release
from training.ranks.agreement import on_first_rank
from training.ranks.peers import Peers

log = get_logger("train")


@contextlib.contextmanager
def claimed(output: Path, peers: Peers) -> Iterator[None]:
    """The folder exists and is this run's; StorageError on every rank when another process holds it. Collective.

    The system lets go of the lock when rank 0 ends, however it ends, so nothing has to be cleaned up after a crash.
    """
    held: list[int] = []
    on_first_rank(peers, lambda: held.extend((acquire(output) or ())[:1]))
    try:
        yield
    finally:
        for handle in held:
            release(handle)


def save_recipe(output: Path, text: str) -> None:
    """recipe.yaml beside the output: what `clipmill export` and a later reader of the folder go by."""
    storage.publish_bytes(str(output / RECIPE), text.encode())


def note_saved(output: Path) -> None:
    """Says, outside of the checkpoints' folder, that the run has saved: it never starts from step 0 by itself again."""
    if not (output / SAVED).exists():
        storage.publish_json(str(output / SAVED), {"saved": True})


def require_checkpoints(output: Path) -> None:
    """DataError when a run that has saved before finds no checkpoint."""
    if (output / SAVED).exists():
        hint = "put the checkpoints back, or start over on purpose with train.fresh=true"
        raise DataError(str(output / CHECKPOINTS), "is gone or empty", "the checkpoints that this run has saved", hint)


def set_aside(output: Path) -> None:
    """`train.fresh`: earlier checkpoints and logs, if any, are kept under names that end in .old-N."""
    present = [output / name for name in (CHECKPOINTS, METRICS, EVALS, SAVED) if (output / name).exists()]
    if not present:
        return
    number = 1
    while any(_old(path, number).exists() for path in present):
        number += 1
    with storage.storage_errors(output):
        for path in present:
            os.rename(path, _old(path, number))
    log.warning("train.fresh: what was in %s is now called *.old-%d; starting from step 0", output, number)


def _old(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.old-{number}")
