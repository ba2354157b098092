"""Numbers that change over a run: functions of the share of its steps that are done."""

import math
from bisect import bisect_right
from collections.abc import Sequence
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


def first_off(weights: "Sequence[float | list[tuple[float, float]]]", steps: int, span: range) -> int | None:
    """The first step of `span` at which none of them is above 0; None: there is none. `steps`: of the whole run."""
    bends = [at for weight in weights if isinstance(weight, list) for at, _ in weight]
    # Straight lines that are nowhere below 0 are 0 between two bends if they are at a step beside each.
    near = {span.start, *(math.floor(bend * steps) + more for bend in bends for more in (-1, 0, 1, 2))}
    off = (
        step
        for step in sorted(step for step in near if step in span)
        if not any(value_at(weight, progress_of(step, steps)) for weight in weights)
    )
    return next(off, None)
