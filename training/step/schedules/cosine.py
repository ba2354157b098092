"""Half a cosine (Loshchilov and Hutter, 2017)."""

import math
from typing import Literal

from pydantic import Field

from training.step.schedule import Schedule


class Cosine(Schedule):
    """From the peak to `final_fraction` of it, over all steps behind the warm-up. Other `steps` make it another curve:
    to go on from its end, choose a kind that stays at its peak."""

    kind: Literal["cosine"] = "cosine"
    final_fraction: float = Field(0.0, ge=0.0, le=1.0, description="last learning rate / peak learning rate")

    def share_at(self, step: int, steps: int) -> float:
        done = min(1.0, (step - self.warmup_steps) / max(1, steps - self.warmup_steps))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * done))
