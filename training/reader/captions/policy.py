"""Which caption of a pair a step uses: a policy, drawn by keyed hash of (seed, epoch, uid)."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from pipeline.contract.pairs import is_synthetic
from pipeline.draws import keyed_uniform
from pipeline.settings import Settings

ORIGINAL, SYNTHETIC = "original", "synthetic"


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

    @property
    def varies(self) -> bool:
        """Whether `progress` counts: then a run of other `train.steps` uses other captions."""
        return False


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
