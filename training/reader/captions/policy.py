"""Which caption of a pair a step uses: a policy, drawn by keyed hash of (seed, epoch, uid)."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeFloat

from pipeline.contract.pairs import is_synthetic
from pipeline.draws import keyed_uniform
from pipeline.settings import Settings

ORIGINAL, SYNTHETIC = "original", "synthetic"


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


def names_of(source: str) -> tuple[str, str, str]:
    """What speaks for a source: itself (`rewrite:llama`), what stands before its colon (`rewrite`), and whether a model
    wrote it: `synthetic`, `original`."""
    return source, source.partition(":")[0], SYNTHETIC if is_synthetic(source) else ORIGINAL


class CaptionPolicy(Settings):
    """Picks one of a pair's captions (dicts with at least `text` and `source`); with one caption all policies agree.
    The pair's negatives are no captions of it, and no policy sees them."""

    @abstractmethod
    def pick(self, captions: list[dict[str, Any]], uniform: float, progress: float) -> int:
        """Index of the caption for a draw in [0, 1), when `progress` (0 to 1) of the run's steps are done."""


def drawn(weights: Sequence[float], uniform: float) -> int:
    """Index by weights, for a draw in [0, 1); 0 where all are zero."""
    goal, reached, last = uniform * sum(weights), 0.0, 0
    for i, weight in enumerate(weights):
        reached += weight
        last = i if weight > 0 else last
        if goal < reached:
            return i
    return last  # sums that were rounded


def draw_caption(
    policy: CaptionPolicy, captions: list[dict[str, Any]], seed: int, epoch: int, uid: str, progress: float = 0.0
) -> str:
    """The text used for the pair `uid` in `epoch`."""
    if len(captions) == 1:
        return captions[0]["text"]
    return captions[policy.pick(captions, keyed_uniform(seed, "caption", epoch, uid), progress)]["text"]
