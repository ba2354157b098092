"""What a curation, or teachers, have committed on the way to a manifest: the sign that an attempt was not in vain.

A unit of work is done when its state file is there, a small JSON file two or three folders below the pool or the
output's working folder; what was measured lies in packs, which only grow (curation/pool/, curation/job.py). Nothing is
read: a count is listings, whose length goes with the number of parts.
"""

import os
from collections import Counter
from collections.abc import Iterator

from pipeline import storage
from pipeline.contract.reinforced.manifest import set_folder
from pipeline.errors import ClipmillError
from pipeline.outputs import POOL, WORK
from pipeline.recipe import Recipe

Counts = dict[str, int]
_DEPTH = 3
_STATE = ".json"


def committed(recipe: Recipe, stage: str) -> Counts | None:
    """Finished units by folder; None where the storage does not say, and for a stage that has checkpoints."""
    count = {"curate": _of_curation, "reinforce": _of_teachers}.get(stage)
    try:
        return None if count is None else dict(sorted(count(recipe).items()))
    except (OSError, ClipmillError):
        return None


def _of_teachers(recipe: Recipe) -> Counter[str]:
    """Shards that they have looked at, of each dataset."""
    section = recipe.data.get("reinforce") or {}
    folders = [set_folder(str(url), str(section.get("set"))) for url in section.get("data") or []]
    return Counter({url: sum(_is_done(name, ".parquet") for name in storage.list_names(url)) for url in folders})


def _of_curation(recipe: Recipe) -> Counter[str]:
    """By folder directly in the pool or the working folder; of measured columns bytes."""
    curate = recipe.data.get("curate") or {}
    output = str(curate.get("output"))
    pool, work = str(curate.get("pool") or storage.join(output, POOL)), storage.join(output, WORK)
    found: Counter[str] = Counter()
    for name, folder in (("pool", pool), ("work", work)):
        found.update(f"{name}/{top}" for top in _states(folder))
    columns = storage.join(pool, "columns")
    for stage in storage.list_folders(columns):
        sizes = storage.list_sizes(storage.join(columns, stage))
        found["pool/columns"] += sum(size for name, size in sizes.items() if _is_done(name, ".pack"))
    return found


def _states(folder: str) -> Iterator[str]:
    """For each state below `folder` the name of the folder directly in it."""
    local = storage.local_path(folder)
    if local is not None:
        yield from _walked(str(local), "", 1)
        return
    for depth in range(2, _DEPTH + 1):
        for url in storage.glob(storage.join(folder, *["*"] * (depth - 1), f"*{_STATE}")):
            yield url.split("/")[-depth]


def _walked(folder: str, top: str, depth: int) -> Iterator[str]:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if depth < _DEPTH and entry.is_dir():
                yield from _walked(entry.path, top or entry.name, depth + 1)
            elif top and _is_done(entry.name, _STATE):
                yield top


def _is_done(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not storage.is_temp(name)
