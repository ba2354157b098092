"""Whether a finished run is the one that a recipe asks for: "already finished" must not be said of another one."""

from pipeline import recipe as recipes
from pipeline.errors import RecipeError
from pipeline.log import get_logger
from pipeline.outputs import CACHE, RECIPE
from pipeline.recipe.differences import differences
from training.checkpoint.save import Found
from training.reader.pairs import open_pairs
from training.settings import TrainSettings

log = get_logger("train")
# What never changes what is learnt; data are compared by their digest, wherever they lie.
_FREE = (
    "data", "output", "steps", "checkpoint", "eval", "fresh", "on_nonfinite", "max_nonfinite", "batch.chunk",
    "engine.zero_stage", "engine.check_cache", "reader.workers", "reader.prefetch", "reader.piece", "reader.threads",
    "reader.max_bad_fraction",
)  # fmt: skip


def require_same(settings: TrainSettings, seed: int, found: Found) -> None:
    """RecipeError listing by dotted path what this recipe would have done in another way than the finished run."""
    changed = [*_of_the_order(settings, seed, found), *_of_the_recipe(settings)]
    if changed:
        hint = "give this run another train.output, or train.fresh=true to train anew here"
        raise RecipeError(
            settings.output, f"is finished, but by another recipe: {'; '.join(changed)}", "the same", hint
        )


def _of_the_order(settings: TrainSettings, seed: int, found: Found) -> list[str]:
    """Which pairs were drawn, and how many steps."""
    before = found.state
    data = open_pairs(settings.data, str(settings.output_path / CACHE)).digest
    pairs = (
        ("train.data", f"dataset {before.reader.data}", f"dataset {data}"),
        ("seed", before.reader.seed, seed),
        ("train.batch.global", before.reader.global_batch, settings.plan.of_checkpoint(before.step).batch.global_pairs),
        ("train.steps", before.step, settings.steps),
    )
    return [f"{path}: {old} -> {now}" for path, old, now in pairs if old != now]


def _of_the_recipe(settings: TrainSettings) -> list[str]:
    path = settings.output_path / RECIPE
    try:
        before = recipes.load(str(path)).section("train", TrainSettings)
    except RecipeError as error:
        log.warning("%s cannot be compared with: %s", path, error.found)
        return []
    old, now = (one.model_dump(mode="json", by_alias=True) for one in (before, settings))
    return [f"train.{difference}" for difference in differences(old, now, ignored=(*_FREE, "batch.global"))]
