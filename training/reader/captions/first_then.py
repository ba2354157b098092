"""Captions of some sources first, of others then, in orders of preference."""

from typing import Any, Literal

from pydantic import Field

from training.reader.captions.policy import CaptionPolicy, drawn, names_of


class FirstThen(CaptionPolicy):
    """Until `at` (of the run's steps, 0 to 1) captions of `first`, from there on of `then`. Both are sources, the most
    wanted one first, written as the weights of `weighted` are; of what a pair has of the best of them each is as
    likely. A pair that has none of them uses its first caption. With `at: 0` it is what a model wrote wherever there is
    such a caption."""

    kind: Literal["first_then"] = "first_then"
    first: list[str] = ["original", "synthetic"]
    then: list[str] = ["synthetic", "original"]
    at: float = Field(0.5, ge=0, le=1)

    def pick(self, captions: list[dict[str, Any]], uniform: float, progress: float) -> int:
        wanted = self.then if progress >= self.at else self.first
        names = [names_of(str(caption.get("source", ""))) for caption in captions]
        fits = ([float(key in each) for each in names] for key in wanted)
        return next((drawn(each, uniform) for each in fits if any(each)), 0)

    @property
    def varies(self) -> bool:
        return 0 < self.at < 1
