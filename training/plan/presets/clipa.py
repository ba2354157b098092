"""CLIPA (Li et al., 2023): small pictures and short texts for most of the run, full size at its end."""

from typing import Literal

from pydantic import Field

from training.plan.presets.preset import Preset, cut
from training.plan.stage import Stage


class Clipa(Preset):
    """`share` of the steps with pictures of `image_size` and texts of `context_length` tokens, the rest with those of
    `train.model`, at `tuning_lr` times the learning rate; each with a schedule of its own."""

    kind: Literal["clipa"] = "clipa"
    image_size: int = Field(112, ge=1)
    context_length: int = Field(16, ge=2)
    share: float = Field(0.9, gt=0.0, lt=1.0)
    tuning_lr: float = Field(0.1, gt=0.0, le=1.0)

    def made(self, steps: int, lr: float) -> list[Stage]:
        small = {"image_size": self.image_size, "context_length": self.context_length}
        return [
            Stage(until=cut(steps, self.share), clock="stage", model=small),
            Stage(until=steps, clock="stage", optimizer={"lr": lr * self.tuning_lr}),
        ]
