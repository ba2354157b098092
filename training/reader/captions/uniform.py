"""Every caption equally often."""

from typing import Any, Literal

from training.reader.captions.policy import CaptionPolicy


class Uniform(CaptionPolicy):
    """Every caption is equally likely, anew in every epoch."""

    kind: Literal["uniform"] = "uniform"

    def pick(self, captions: list[dict[str, Any]], uniform: float, progress: float) -> int:
        return min(int(uniform * len(captions)), len(captions) - 1)
