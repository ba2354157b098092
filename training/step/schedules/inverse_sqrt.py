"""The inverse square root of the step (Vaswani et al., 2017; with a cooldown: Zhai et al., 2022)."""

import math
from typing import Literal

from pydantic import Field

from training.step.schedule import Schedule


class InverseSqrt(Schedule):
    """peak x sqrt(T / (T + steps behind the warm-up)), T = `timescale` (default: the warm-up's steps), whatever `steps`
    is; the last `cooldown_steps` fall linearly to zero on top of it."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    timescale: int | None = Field(None, ge=1)
    cooldown_steps: int = Field(0, ge=0)

    def share_at(self, step: int, steps: int) -> float:
        scale = self.timescale or max(1, self.warmup_steps)
        left = min(1.0, max(0, steps - step) / self.cooldown_steps) if self.cooldown_steps else 1.0
        return left * math.sqrt(scale / (scale + step - self.warmup_steps))
