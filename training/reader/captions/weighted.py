"""Captions weighted by their source."""

from typing import Any, Literal

from pydantic import NonNegativeFloat

from training.reader.captions.policy import CaptionPolicy


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
