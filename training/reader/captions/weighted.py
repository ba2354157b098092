"""Captions weighted by their source, by weights that may change over the run."""

from collections import Counter
from typing import Any, Literal

from training.reader.captions.policy import CaptionPolicy, drawn, names_of
from training.scheduled import Scheduled, value_at


class Weighted(CaptionPolicy):
    """Captions weighted by source: `weights: {alt: 1, "rewrite:llama": 2}`.

    A source is looked up whole, then by its part before the colon (`rewrite`), then as `original` or `synthetic` (what
    a model wrote), else it has weight `default`. A weight may be a schedule over the run: from the alt texts to the
    captions of a model, `{original: [[0, 1], [1, 0.2]], synthetic: [[0, 0], [1, 0.8]]}`.

    per  caption: every caption has its weight. source: all captions of a pair that one entry speaks for have its weight
         together, so that five rewrites weigh no more than one, and at most one of them is in a step

    What a pair has not got leaves its share to the others. Where every caption has weight 0 it uses its first one.
    """

    kind: Literal["weighted"] = "weighted"
    weights: dict[str, Scheduled]
    default: Scheduled = 1.0
    per: Literal["caption", "source"] = "caption"

    def pick(self, captions: list[dict[str, Any]], uniform: float, progress: float) -> int:
        keys = [self._key(str(caption.get("source", ""))) for caption in captions]
        sharing = Counter(keys) if self.per == "source" else Counter(dict.fromkeys(keys, 1))
        weights = [value_at(self.default if key is None else self.weights[key], progress) for key in keys]
        return drawn([weight / sharing[key] for weight, key in zip(weights, keys, strict=True)], uniform)

    @property
    def varies(self) -> bool:
        return any(isinstance(weight, list) for weight in (*self.weights.values(), self.default))

    def _key(self, source: str) -> str | None:
        return next((name for name in names_of(source) if name in self.weights), None)
