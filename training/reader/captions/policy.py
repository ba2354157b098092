"""Which caption of a pair a step uses: a policy, drawn by keyed hash of (seed, epoch, uid)."""

from abc import abstractmethod
from typing import Any

from pipeline.draws import keyed_uniform
from pipeline.settings import Settings


class CaptionPolicy(Settings):
    """Picks one of a pair's captions (dicts with at least `text` and `source`); with one caption all policies agree."""

    @abstractmethod
    def pick(self, captions: list[dict[str, Any]], uniform: float) -> int:
        """Index of the caption for a draw in [0, 1)."""


def draw_caption(policy: CaptionPolicy, captions: list[dict[str, Any]], seed: int, epoch: int, uid: str) -> str:
    """The text used for the pair `uid` in `epoch`."""
    if len(captions) == 1:
        return captions[0]["text"]
    return captions[policy.pick(captions, keyed_uniform(seed, "caption", epoch, uid))]["text"]
