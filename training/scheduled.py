"""Numbers that change over a run: functions of the share of its steps that are done."""

from bisect import bisect_right
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat


def _rising(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if any(one[0] > other[0] for one, other in zip(points, points[1:], strict=False)):
        raise ValueError("the points of a schedule have to be in order of their progress")
    return points


_Point = tuple[Annotated[float, Field(ge=0, le=1)], NonNegativeFloat]
Scheduled = NonNegativeFloat | Annotated[list[_Point], Field(min_length=1), AfterValidator(_rising)]
"""A number, or [progress, number] points: constant before the first and behind the last, a straight line between two, a
jump where two have the same progress. Progress is the share of the run's steps that are done, 0 to 1."""


def progress_of(step: int, steps: int) -> float:
    """The share of a run of `steps` that is done when `step` (from 0) begins: a function, so that resuming seeks."""
    return min(step / steps, 1.0) if steps else 0.0


def value_at(scheduled: "float | list[tuple[float, float]]", progress: float) -> float:
    """The number that counts when `progress` of the run is done."""
    if not isinstance(scheduled, list):
        return scheduled
    after = bisect_right([at for at, _ in scheduled], progress)
    if after in (0, len(scheduled)):
        return scheduled[min(after, len(scheduled) - 1)][1]
    (left, low), (right, high) = scheduled[after - 1], scheduled[after]
    return low + (high - low) * (progress - left) / (right - left)
