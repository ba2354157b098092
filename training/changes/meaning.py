"""What another value of a setting does to a run that goes on: nothing, another rounding, or other numbers.

Whatever is not listed here changes what is learnt: a setting that is new is asked about until somebody says why not.
"""

from fnmatch import fnmatchcase
from typing import Literal

Effect = Literal["none", "rounding", "learning"]
BESIDE = ("steps", "stages", "preset", "accept_changes")
"""Compared by what they say of each step, or of no run at all."""

_NONE = {
    "data": "the same pairs, by their digest, wherever they lie",
    "output": "a place",
    "fresh": "of this start alone",
    "checkpoint": "when and how many",
    "eval": "scores beside the training",
    "on_nonfinite": "what follows a broken step",
    "max_nonfinite": "what follows a broken step",
    "reader.workers": "who reads, not what",
    "reader.prefetch": "how far ahead",
    "reader.piece": "who reads, not what",
    "reader.threads": "who reads, not what",
    "reader.max_bad_fraction": "when to give up",
    "engine.check_cache": "a check",
}
_ROUNDING = {
    "batch.chunk": "the same sums in another order",
    "engine.zero_stage": "the same sums in another order",
    "model.grad_checkpointing": "the same numbers, computed twice",
    "loss.*.tile": "the same sums in another order",
    "loss.*.exchange": "the same sums in another order",
    "loss.*.kernel": "the same sums in another order",
}
FOR_GOOD = ("seed", "train.model", "train.image.resize", "train.batch.global", "train.reader.lanes",
            "train.reader.window")  # fmt: skip
"""What no consent changes: the checks of order and model refuse it. See `training.reader.state` and `model_digest`."""


def meaning_of(path: str) -> tuple[Effect, str]:
    """The effect of a change of `path` (within `train`), and why that is so."""
    for effect, table in (("none", _NONE), ("rounding", _ROUNDING)):
        for pattern, why in table.items():
            if under(path, pattern):
                return effect, why  # type: ignore[return-value]  # the tables' names are effects
    return "learning", "other numbers"


def under(path: str, pattern: str) -> bool:
    """Whether `path` is what `pattern` names (`*`: any one word), or lies below it."""
    words, wanted = path.split("."), pattern.split(".")
    return len(words) >= len(wanted) and all(map(fnmatchcase, words, wanted))
