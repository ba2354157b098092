"""One stage of a run: until when, and what differs from the rest of the `train` section. Imports no torch."""

from typing import Any, Literal

from pydantic import Field

from pipeline.errors import RecipeError
from pipeline.settings import Settings

SECTIONS: dict[str, tuple[str, ...] | None] = {
    "model": ("lock_image", "lock_text", "image_size", "context_length", "patch_dropout", "grad_checkpointing"),
    "image": ("crop_scale", "flip"), "batch": None, "loss": None, "captions": None, "optimizer": None, "schedule": None,
    "engine": ("grad_clip",),
}  # fmt: skip
"""What a stage may say otherwise, by section of `train`; None: all of it."""


class Stage(Settings):
    """The run's steps up to `until` (exclusive, counted from the run's start). Every other key is a section of `train`,
    of which only what differs is said: `{until: 900, model: {image_size: 112}, batch: {global: 4096}}`
    (a `loss` is said whole).

    `clock`: the schedule runs over the whole run, or anew over the steps of this stage. `moments`: the optimizer keeps
    what it knows, or starts anew; a stage that trains a tower which was locked, or with another kind of optimizer, has
    to say `fresh`. `stretch`: how positions of texts are made more; see `training/surgery`.
    """

    until: int = Field(ge=1, le=10**12)
    clock: Literal["run", "stage"] = "run"
    moments: Literal["keep", "fresh"] = "keep"
    stretch: Literal["keep_first", "interpolate"] = "keep_first"
    model: dict[str, Any] = {}
    image: dict[str, Any] = {}
    batch: dict[str, Any] = {}
    loss: dict[str, Any] | list[dict[str, Any]] = {}
    captions: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    schedule: dict[str, Any] = {}
    engine: dict[str, Any] = {}

    def changes(self, where: str) -> dict[str, dict[str, Any]]:
        """What differs, by section. RecipeError for a key that may not change within a run; `where` is the stage."""
        found = {section: getattr(self, section) for section in SECTIONS if getattr(self, section)}
        for section, changed in found.items():
            allowed = SECTIONS[section]
            strange = sorted(set(changed) - set(allowed)) if allowed else []
            if strange:
                path, expected = f"{where}.{section}.{strange[0]}", f"expected one of {', '.join(allowed or ())}"
                raise RecipeError(path, "may not change within a run", expected, f"say it in train.{section}")
        return found


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` in it, section by section; a section of another `kind` replaces the one before."""
    result = dict(base)
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict) and value.get("kind") in (None, before.get("kind")):
            value = merged(before, value)
        result[key] = value
    return result
