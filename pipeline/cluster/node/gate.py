"""What has to be there before a stage begins: a finished dataset before whatever reads it, whatever exit codes came
before."""

from pathlib import Path

from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest
from pipeline.errors import DataError, StorageError
from pipeline.recipe import Recipe


def require_inputs(recipe: Recipe, stage: str) -> None:
    """DataError where a stage would read what the recipe's curation has not finished, or what is cut since.

    The manifest is checked against its own digest and each shard's size against the manifest, not each byte: the
    reader checks those as it reads them.
    """
    output = (recipe.data.get("curate") or {}).get("output")
    if stage not in ("reinforce", "train") or not isinstance(output, str) or not _reads(recipe, stage, output):
        return
    manifest = Manifest.load(output)
    where = storage.join(output, MANIFEST)
    if manifest.num_pairs == 0:
        raise DataError(storage.shown(where), "counts no pairs", "at least one", "loosen the stages of curate")
    sizes = storage.list_sizes(output)
    wrong = [shard.name for shard in manifest.shards if sizes.get(shard.name) != shard.bytes]
    if wrong:
        found = f"{len(wrong)} of {len(manifest.shards)} shards are missing or of another size, the first {wrong[0]}"
        hint = f"clipmill data verify {storage.shown(output)}, then run the curation again"
        raise DataError(storage.shown(output), found, "the shards of its manifest", hint)


def _reads(recipe: Recipe, stage: str, output: str) -> bool:
    named = (recipe.data.get(stage) or {}).get("data")
    found = [named] if isinstance(named, str) else named or []
    return any(isinstance(each, str) and _same(each, output) for each in found)


def _same(one: str, other: str) -> bool:
    here, there = storage.local_path(one), storage.local_path(other)
    if here is None or there is None:
        return one.rstrip("/") == other.rstrip("/")
    return Path(here).absolute() == Path(there).absolute()


def manifest_step(recipe: Recipe) -> int:
    """1 where the recipe's curation has a manifest that can be read, else 0."""
    try:
        return int(Manifest.load(recipe.data["curate"]["output"]).num_pairs > 0)
    except (DataError, StorageError, KeyError):
        return 0
