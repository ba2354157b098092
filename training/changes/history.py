"""Every recipe that a run had: <train.output>/history/, one file a recipe and one line a start."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline import recipe as recipes
from pipeline import storage
from pipeline.outputs import ATTEMPTS, HISTORY
from pipeline.recipe import Recipe
from training.changes.compare import Change
from training.changes.kept import versions


def note_start(
    output: Path, recipe: Recipe, *, step: int, ranks: int, found: Sequence[Change], job: str | None
) -> None:
    """Keeps the recipe, by its digest (the `recipe_digest` of the checkpoints to come), and adds a line that says from
    which step it went on and what was otherwise. StorageError as of any write.
    """
    folder = output / HISTORY
    name = f"recipe-{recipes.digest(recipe)}.yaml"
    with storage.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            storage.publish_bytes(str(folder / name), recipe.as_yaml().encode())
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "step": step, "recipe": name, "ranks": ranks,
            "job": job, "versions": versions(), "changes": [asdict(change) for change in found],
        }  # fmt: skip
        with open(folder / ATTEMPTS, "ab") as file:
            if file.tell() and not _ends_whole(folder / ATTEMPTS):  # a start that was killed as it wrote
                file.write(b"\n")
            file.write((json.dumps(line, separators=(",", ":")) + "\n").encode())


def _ends_whole(path: Path) -> bool:
    return path.read_bytes()[-1:] == b"\n"
