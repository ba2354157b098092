"""Warm-up, stable, decay (Hu et al., 2024; shapes: Hägele et al., 2024)."""

import math
from typing import Literal

from pydantic import Field, model_validator

from training.step.schedule import Schedule

DECAY_SHARE = 0.2  # Hägele et al., 2024: with a fifth of the steps it is as good as a cosine made for the length


class WarmupStableDecay(Schedule):
    """The peak until the last `decay_steps`, or the last `decay_share` of all steps (default 0.2), then down to
    `final_fraction` of it. A checkpoint of before the decay goes on to any number of steps as if they had been meant
    from the start; `sqrt` is 1 - sqrt(share of the decay that is done)."""

    kind: Literal["wsd"] = "wsd"
    decay_steps: int | None = Field(None, ge=1)
    decay_share: float | None = Field(None, gt=0.0, le=1.0)
    shape: Literal["linear", "sqrt", "cosine"] = "sqrt"
    final_fraction: float = Field(0.0, ge=0.0, le=1.0, description="last learning rate / peak learning rate")

    @model_validator(mode="after")
    def _one_length(self) -> "WarmupStableDecay":
        if self.decay_steps is not None and self.decay_share is not None:
            raise ValueError("give one of decay_steps and decay_share")
        return self

    def share_at(self, step: int, steps: int) -> float:
        share = DECAY_SHARE if self.decay_share is None else self.decay_share
        length = max(1, math.floor(share * steps + 0.5)) if self.decay_steps is None else self.decay_steps
        done = min(1.0, max(0, step - (steps - length)) / length)
        left = {"linear": 1 - done, "sqrt": 1 - math.sqrt(done), "cosine": 0.5 * (1 + math.cos(math.pi * done))}
        return self.final_fraction + (1 - self.final_fraction) * left[self.shape]
