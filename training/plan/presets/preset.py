"""A plan by its name: numbers in, stages out."""

from abc import abstractmethod

from pipeline.errors import RecipeError
from pipeline.settings import Settings
from training.plan.stage import Stage


class Preset(Settings):
    """`made` gives the stages of a run."""

    @abstractmethod
    def made(self, steps: int, lr: float) -> list[Stage]:
        """The stages of a run of `steps` with the peak learning rate `lr`. RecipeError: too few steps."""


def cut(steps: int, share: float) -> int:
    """The step that `share` of `steps` ends at, with something on both sides."""
    if steps < 2:
        raise RecipeError("train.preset", f"train.steps is {steps}", "at least 2 for a plan of two stages")
    return min(max(1, round(share * steps)), steps - 1)
