"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from typing import Literal

from pydantic import Field

from pipeline.settings import Settings


class ScheduleSettings(Settings):
    """Linear warm-up, then `kind`; `cooldown_steps` (constant only) falls linearly to the end."""

    kind: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    cooldown_steps: int = Field(0, ge=0)
    final_fraction: float = Field(0.0, ge=0.0, le=1.0, description="last learning rate / peak learning rate")


def lr_at(step: int, settings: ScheduleSettings, peak_lr: float, steps: int) -> float:
    """The learning rate of step `step` (0-based) of `steps`."""
    raise NotImplementedError
