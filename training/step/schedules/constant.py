"""The peak, to the end or to a linear cooldown (Zhai et al., 2022)."""

from typing import Literal

from pydantic import Field

from training.step.schedule import Schedule


class Constant(Schedule):
    """`cooldown_steps` at the end fall to `final_fraction` of the peak; without them a run of fewer steps is the first
    part of a longer one."""

    kind: Literal["constant"] = "constant"
    cooldown_steps: int = Field(0, ge=0)
    final_fraction: float = Field(0.0, ge=0.0, le=1.0, description="last learning rate / peak learning rate")

    def share_at(self, step: int, steps: int) -> float:
        left = min(1.0, max(0, steps - step) / self.cooldown_steps) if self.cooldown_steps else 1.0
        return self.final_fraction + (1 - self.final_fraction) * left
