"""LiT (Zhai et al., 2022): a text tower for a pretrained image tower, which stays as it is."""

from typing import Literal

from pydantic import Field

from training.plan.presets.preset import Preset, cut
from training.plan.stage import Stage


class Lit(Preset):
    """The image tower is locked for `share` of the steps (all, as in the paper), and trained with the text tower behind
    them, with fresh moments, at `tuning_lr` times the rate."""

    kind: Literal["lit"] = "lit"
    share: float = Field(1.0, gt=0.0, le=1.0)
    tuning_lr: float = Field(0.1, gt=0.0, le=1.0)

    def made(self, steps: int, lr: float) -> list[Stage]:
        locked = {"lock_image": True}
        if self.share == 1.0:
            return [Stage(until=steps, model=locked)]
        tuning = Stage(until=steps, clock="stage", moments="fresh", optimizer={"lr": lr * self.tuning_lr})
        return [Stage(until=cut(steps, self.share), clock="stage", model=locked), tuning]
