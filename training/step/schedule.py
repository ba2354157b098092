"""The learning rate as a function of the step: nothing to save, nothing to restore."""

import math
from typing import Literal

from pydantic import Field

from pipeline.settings import Settings


class ScheduleSettings(Settings):
    """A linear warm-up to the peak, then half a cosine down (Loshchilov and Hutter, 2017), or constant.

    `cooldown_steps` is for `constant`: a linear fall at the end (Zhai et al., 2022).
    """

    kind: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    cooldown_steps: int = Field(0, ge=0)
    final_fraction: float = Field(0.0, ge=0.0, le=1.0, description="last learning rate / peak learning rate")


def lr_at(step: int, settings: ScheduleSettings, peak_lr: float, steps: int) -> float:
    """The learning rate of step `step` (0-based) of `steps`: the first is peak/warmup, never zero."""
    if step < settings.warmup_steps:
        return peak_lr * (step + 1) / settings.warmup_steps
    if settings.kind == "cosine":
        span = max(1, steps - settings.warmup_steps)
        done = min(1.0, (step - settings.warmup_steps) / span)
        fraction = 0.5 * (1 + math.cos(math.pi * done))
    else:
        left = steps - step
        fraction = min(1.0, max(0, left) / settings.cooldown_steps) if settings.cooldown_steps else 1.0
    return peak_lr * (settings.final_fraction + (1 - settings.final_fraction) * fraction)
