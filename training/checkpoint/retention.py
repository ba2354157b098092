"""Which finished checkpoints stay: the newest few. A deletion cut short is finished by the next start (`sweep`)."""

from collections.abc import Collection
from pathlib import Path

from pipeline.outputs import COMPLETE
from training.checkpoint.layout import discard, step_folders, step_of


def expired(root: Path, step: int, keep_last: int, rejected: Collection[str] = ()) -> list[Path]:
    """The folders to delete after `step` was saved, oldest first.

    Counted and deleted are finished ones up to `step` only: a rejected folder takes no place and stays for a person to
    look at, and a folder of a later step (left by a run that was taken back) is not this run's to judge.
    """
    mine = [folder for folder in step_folders(root) if folder.name not in rejected and step_of(folder) <= step]
    finished = [folder for folder in mine if (folder / COMPLETE).is_file()]
    return finished[keep_last:][::-1]


def prune(root: Path, step: int, keep_last: int, rejected: Collection[str] = ()) -> list[str]:
    """Deletes what `expired` names; returns the names."""
    folders = expired(root, step, keep_last, rejected)
    for folder in folders:
        discard(folder)
    return [folder.name for folder in folders]
