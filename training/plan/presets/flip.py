"""FLIP (Li et al., 2023): half of the patches dropped, then a short tuning on whole pictures."""

from typing import Literal

from pydantic import Field

from training.plan.presets.preset import Preset, cut
from training.plan.stage import Stage


class Flip(Preset):
    """`share` of the steps without `patch_dropout` of the patches; the rest with all, at `tuning_lr` times the rate."""

    kind: Literal["flip"] = "flip"
    patch_dropout: float = Field(0.5, gt=0.0, lt=1.0)
    share: float = Field(0.97, gt=0.0, lt=1.0)
    tuning_lr: float = Field(0.1, gt=0.0, le=1.0)

    def made(self, steps: int, lr: float) -> list[Stage]:
        return [
            Stage(until=cut(steps, self.share), clock="stage", model={"patch_dropout": self.patch_dropout}),
            Stage(until=steps, clock="stage", optimizer={"lr": lr * self.tuning_lr}),
        ]
