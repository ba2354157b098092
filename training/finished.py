"""Whether a finished run is the one that a recipe asks for: "already finished" must not be said of another one."""

from pipeline.errors import RecipeError
from pipeline.log import get_logger
from pipeline.outputs import CACHE
from pipeline.recipe.differences import short
from training.changes.consent import found_changes, unaccepted
from training.changes.kept import kept_in
from training.checkpoint.save import Found
from training.reader.pairs import open_pairs
from training.reader.stored.replay import stored_digest
from training.settings import TrainSettings

log = get_logger("train")


def require_same(settings: TrainSettings, seed: int, found: Found) -> None:
    """RecipeError listing by dotted path what this recipe would have done in another way than the finished run."""
    changed = _of_the_order(settings, seed, found) | _of_the_recipe(settings, found)
    if changed:
        hint = "give this run another train.output, or train.fresh=true to train anew here"
        raise RecipeError(
            settings.output, f"is finished, but by another recipe: {'; '.join(changed.values())}", "the same", hint
        )


def _of_the_order(settings: TrainSettings, seed: int, found: Found) -> dict[str, str]:
    """Which pairs were drawn, what was stored of them, and how many steps, by setting. DataError: no set is there."""
    before, last = found.state, settings.plan.of_checkpoint(found.state.step)
    data = open_pairs(settings.data, str(settings.output_path / CACHE))
    stored = before.reader.stored  # of other data it would be another anyhow
    if data.digest == before.reader.data:
        stored = stored_digest(data, last.stored.name) if last.stored else None
    pairs = (
        ("train.data", f"dataset {before.reader.data}", f"dataset {data.digest}"),
        ("train.companions: stored", f"set {before.reader.stored}", f"set {stored}"),
        ("seed", before.reader.seed, seed),
        ("train.batch.global", before.reader.global_batch, last.batch.global_pairs),
        ("train.steps", before.step, settings.steps),
    )
    return {path: f"{path}: {old} -> {now}" for path, old, now in pairs if old != now}


def _of_the_recipe(settings: TrainSettings, found: Found) -> dict[str, str]:
    kept = kept_in(found.state, settings.output_path)
    if kept.assumed:
        log.info("%s: %s", found.complete.folder.name, kept.assumed)
    left = unaccepted(found_changes(settings, found.state, kept), settings.accept_changes)
    return {one.setting: f"{one.setting}: {short(one.was)} -> {short(one.now)}" for one in left}
