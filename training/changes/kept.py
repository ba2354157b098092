"""The recipe that a checkpoint keeps: every setting of the training as it was resolved, and what ran it."""

from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pipeline import recipe as recipes
from pipeline.errors import RecipeError
from pipeline.outputs import RECIPE
from pipeline.recipe import Recipe
from pipeline.storage.address import shown
from training.checkpoint.train_state import TrainState
from training.settings import TrainSettings

_PACKAGES = ("clipmill", "torch", "deepspeed", "open_clip_torch", "timm")


class Kept(NamedTuple):
    """`settings` are None where this clipmill cannot read them; `raw` then holds what is written. Both None: nothing is
    known. `assumed`: in words, what a checkpoint without a recipe of its own is taken for."""

    settings: TrainSettings | None
    raw: dict[str, Any] | None
    versions: dict[str, str]
    assumed: str = ""


def as_kept(settings: TrainSettings) -> dict[str, Any]:
    """What goes into state.json. Consent is of one start: it is not kept as a setting."""
    told = public(settings.model_dump(mode="json", by_alias=True))
    return {"train": told | {"accept_changes": False, "fresh": False}, "versions": versions()}


def public(value: Any) -> Any:
    """Settings without what is secret in addresses: checkpoints and logs travel."""
    if isinstance(value, dict):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [public(inner) for inner in value]
    return shown(value) if isinstance(value, str) and "://" in value else value


def without_consent(recipe: Recipe) -> Recipe:
    """As it is saved: whoever runs it once more has not agreed to other changes."""
    train = {name: value for name, value in recipe.data["train"].items() if name != "accept_changes"}
    return Recipe(recipe.source, {**recipe.data, "train": train})


def versions() -> dict[str, str]:
    """Of the packages that do the sums; no package is imported for it."""
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def kept_in(state: TrainState, output: Path) -> Kept:
    """The recipe of a checkpoint. Those of earlier clipmills keep none: then the recipe saved beside them counts."""
    if state.recipe is not None:
        raw = state.recipe.get("train", {})
        try:
            return Kept(TrainSettings.model_validate(raw), raw, state.recipe.get("versions", {}))
        except (ValidationError, RecipeError):
            return Kept(None, raw, state.recipe.get("versions", {}), "its settings are compared as they are written")
    path = output / RECIPE
    try:
        settings = recipes.load(str(path)).section("train", TrainSettings)
    except RecipeError as error:
        return Kept(None, None, {}, f"it keeps no recipe, and {path} {error.found}: its settings are taken for these")
    return Kept(settings, None, {}, f"it keeps no recipe (an earlier clipmill wrote it): taken for that of {path}")
