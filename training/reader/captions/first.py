"""Always the default caption."""

from typing import Any, Literal

from training.reader.captions.policy import CaptionPolicy


class First(CaptionPolicy):
    """Always the default caption: what a plain WebDataset reader sees in KEY.txt."""

    kind: Literal["first"] = "first"

    def pick(self, captions: list[dict[str, Any]], uniform: float, progress: float) -> int:
        return 0
