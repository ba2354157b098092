"""Which caption of a pair a step uses: a policy, drawn by keyed hash of (seed, epoch, uid)."""

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat

from pipeline.keyed import keyed_uniform
from pipeline.settings import Settings


class CaptionPolicy(Settings):
    """Picks one of a pair's captions (dicts with at least `text` and `source`); with one caption all policies agree."""

    @abstractmethod
    def pick(self, captions: list[dict[str, Any]], uniform: float) -> int:
        """Index of the caption for a draw in [0, 1)."""


class First(CaptionPolicy):
    """Always the default caption: what a plain WebDataset reader sees in KEY.txt."""

    kind: Literal["first"] = "first"

    def pick(self, captions: list[dict[str, Any]], uniform: float) -> int:
        return 0


class Uniform(CaptionPolicy):
    """Every caption is equally likely, anew in every epoch."""

    kind: Literal["uniform"] = "uniform"

    def pick(self, captions: list[dict[str, Any]], uniform: float) -> int:
        return min(int(uniform * len(captions)), len(captions) - 1)


class Weighted(CaptionPolicy):
    """Captions weighted by source: `weights: {alt: 1, "rewrite:llama": 2}`.

    A source is looked up whole, then by its part before the colon (`rewrite`), else it has weight `default`.
    A pair of which every caption has weight 0 uses its first one.
    """

    kind: Literal["weighted"] = "weighted"
    weights: dict[str, NonNegativeFloat]
    default: NonNegativeFloat = 1.0

    def pick(self, captions: list[dict[str, Any]], uniform: float) -> int:
        weights = [self._weight(str(caption.get("source", ""))) for caption in captions]
        goal = uniform * sum(weights)
        reached = 0.0
        for i, weight in enumerate(weights):
            reached += weight
            if goal < reached:
                return i
        return 0

    def _weight(self, source: str) -> float:
        if source in self.weights:
            return self.weights[source]
        return self.weights.get(source.partition(":")[0], self.default)


CAPTION_POLICIES = {"first": First, "uniform": Uniform, "weighted": Weighted}
CaptionSettings = Annotated[First | Uniform | Weighted, Field(discriminator="kind")]


def draw_caption(policy: CaptionPolicy, captions: list[dict[str, Any]], seed: int, epoch: int, uid: str) -> str:
    """The text used for the pair `uid` in `epoch`."""
    if len(captions) == 1:
        return captions[0]["text"]
    return captions[policy.pick(captions, keyed_uniform(seed, "caption", epoch, uid))]["text"]
