"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from abc import abstractmethod

from pydantic import Field

from pipeline.settings import Settings


class Schedule(Settings):
    """A linear warm-up to the peak, then what the kind says."""

    warmup_steps: int = Field(0, ge=0)

    def lr_at(self, step: int, peak_lr: float, steps: int) -> float:
        """The learning rate of step `step` (0-based) of `steps`: the first is peak/warmup, never zero."""
        if step < self.warmup_steps:
            return peak_lr * (step + 1) / self.warmup_steps
        return peak_lr * self.share_at(step, steps)

    @abstractmethod
    def share_at(self, step: int, steps: int) -> float:
        """Learning rate / peak learning rate of a step behind the warm-up; steps past the end keep the last one."""


def lr_at(step: int, schedule: Schedule, peak_lr: float, steps: int) -> float:
    """The learning rate of step `step` (0-based) of `steps`."""
    return schedule.lr_at(step, peak_lr, steps)
