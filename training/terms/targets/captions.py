"""An image has several texts: its captions, rewrites, sentences of a long one (LaCLIP, 2023; DreamLIP, 2024)."""

from typing import Literal

from pydantic import Field

from training.terms.costs import StepSizes, TargetCost
from training.terms.targets.settings import TargetSettings


class Captions(TargetSettings):
    """`shared`: each of an image's K texts has 1/K of its target, so no text is to win over the others. `each`: the
    mean over its texts of the loss each would have alone, the others left out. From text to image there is one answer.
    In the sigmoid core every text of a row is a yes either way."""

    kind: Literal["captions"] = "captions"
    among: Literal["shared", "each"] = Field("shared", description="do an image's texts compete with each other")

    @property
    def positives(self) -> Literal["first", "all", "each"]:
        return "all" if self.among == "shared" else "each"

    def costs(self, at: StepSizes) -> TargetCost:
        return TargetCost()
