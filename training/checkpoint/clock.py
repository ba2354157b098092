"""When to save: every so many steps, minutes, or at the interval that loses least; and at once when asked to stop.

The default interval is Young's (1974; Daly, 2006): sqrt(2 C M) for a save that stops training for C seconds and a mean
time M between failures. C is measured; M = 1 day / (failures_per_gpu_day x ranks).
"""

import math
import time
from collections.abc import Callable

from pydantic import Field

from pipeline.settings import Settings

DAY_S = 86_400.0
FIRST_S = 300.0
"""The first save of a run without given interval: its cost is what sets the interval."""
BOUNDS_S = (60.0, 3600.0)
"""The measured interval is kept within these: no failure may cost more than an hour, nor saving dominate."""


class CheckpointSettings(Settings):
    """With neither `every_steps` nor `every_minutes` the interval follows from the measured cost of a save."""

    every_steps: int | None = Field(None, ge=1)
    every_minutes: float | None = Field(None, gt=0)
    keep_last: int = Field(3, ge=1)
    failures_per_gpu_day: float = Field(
        4.7e-4, gt=0, description="419 unexpected stops of 16,384 GPUs in 54 days (Llama 3, 2024)"
    )


def interval_s(cost_s: float, world: int, failures_per_gpu_day: float) -> float:
    """Young's interval, in seconds of training between saves, within BOUNDS_S."""
    between_failures_s = DAY_S / (failures_per_gpu_day * world)
    return min(max(math.sqrt(2 * cost_s * between_failures_s), BOUNDS_S[0]), BOUNDS_S[1])


class SaveClock:
    """Says whether a save is due. Only rank 0's answer counts: clocks of different ranks differ."""

    def __init__(
        self,
        settings: CheckpointSettings,
        world: int,
        cost_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cost_s`: what a save cost before this process started, if known."""
        self._settings, self._world, self._clock = settings, world, clock
        self._last_s = clock()
        self.cost_s = cost_s

    @property
    def every_s(self) -> float | None:
        """Seconds between saves; None when only steps count."""
        if self._settings.every_minutes is not None:
            return self._settings.every_minutes * 60
        if self._settings.every_steps is not None:
            return None
        if self.cost_s is None:
            return FIRST_S
        return interval_s(self.cost_s, self._world, self._settings.failures_per_gpu_day)

    def due(self, steps_done: int) -> bool:
        """Whether to save now that `steps_done` steps are done."""
        every_steps, every_s = self._settings.every_steps, self.every_s
        if every_steps is not None and steps_done % every_steps == 0:
            return True
        return every_s is not None and self._clock() - self._last_s >= every_s

    def saved(self, cost_s: float) -> None:
        """A save just ended; it took `cost_s` seconds."""
        self.cost_s, self._last_s = cost_s, self._clock()

    def in_words(self) -> str:
        words = []
        if self._settings.every_steps is not None:
            words.append(f"every {self._settings.every_steps} steps")
        if self.every_s is not None:
            words.append(f"every {self.every_s / 60:.1f} minutes")
        return " and ".join(words)
