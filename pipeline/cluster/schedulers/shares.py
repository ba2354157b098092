"""The inputs of a curation dealt out to the elements of a job array, each of which reads and measures its share.

    python -m pipeline.cluster.schedulers.shares RUN_DIR NUMBER COUNT

prints the recipe of share NUMBER (from 0), for `clipmill curate`; nothing where the share is empty. All shares fill one
pool, from which the run's own curation then takes what is there and makes up what is missing: whatever a share has not
done, and however many shares there were, its dataset has the same bytes.
"""

import os
import sys
from pathlib import Path
from typing import Any

from pipeline import outputs, storage
from pipeline.cluster.rundir import RunDir, open_run
from pipeline.cluster.rundir.create import about, load
from pipeline.errors import ClipmillError, UsageError
from pipeline.recipe import Recipe

FOLDER = "array"
_PATTERN = frozenset("*?[")


def share_of(recipe: Recipe, folder: Path, number: int, count: int) -> Recipe | None:
    """Every `count`th file of each source; None where no source has one. Its output is `folder`, its pool the run's.

    UsageError when there is no such share, or nothing to curate.
    """
    if not 0 <= number < count:
        raise UsageError("share", f"found {number} of {count}", f"a number from 0 to {count - 1}", "")
    if not recipe.has("curate"):
        raise UsageError(recipe.source, "has no section `curate`", "inputs to deal out", "")
    curation: dict[str, Any] = recipe.data["curate"]
    sources = []
    for source in curation["sources"]:
        files = [file for path in _listed(source["paths"]) for file in _files(path)]
        if mine := sorted(files)[number::count]:
            sources.append({**source, "paths": mine})
    if not sources:
        return None
    pool = curation.get("pool") or storage.join(curation["output"], outputs.POOL)
    wanted = {**curation, "sources": sources, "pool": pool, "output": str(folder / "output"), "keep": 0}
    data = {name: value for name, value in recipe.data.items() if name in ("name", "seed")}
    return Recipe(str(folder / outputs.RECIPE), {**data, "curate": wanted})


def _listed(paths: Any) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths)


def _files(path: str) -> list[str]:
    return [file.url for file in storage.list_matches(path).files] if _PATTERN & set(path) else [path]


def write(run: RunDir, number: int, count: int) -> str:
    """The path of the share's recipe, written; "" where it is empty."""
    folder = run.path / FOLDER / f"{number:05d}-of-{count:05d}"
    if home := about(run).get("folder"):
        os.chdir(home)  # where the recipe's relative paths begin
    share = share_of(load(run), folder, number, count)
    if share is None:
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    storage.publish_bytes(share.source, share.as_yaml().encode())
    return share.source


if __name__ == "__main__":
    try:
        print(write(open_run(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    except ClipmillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
