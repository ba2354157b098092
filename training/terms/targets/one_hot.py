"""Each image has its own text and nothing else: CLIP (Radford et al., 2021), with smoothing and margins if wanted."""

from typing import Literal

from training.terms.costs import StepSizes, TargetCost
from training.terms.targets.settings import TargetSettings


class OneHot(TargetSettings):
    """A row's further texts are answers of their own to "which image?", and left out of "which text?"."""

    kind: Literal["one_hot"] = "one_hot"

    @property
    def positives(self) -> Literal["first", "all", "each"]:
        return "first"

    def costs(self, at: StepSizes) -> TargetCost:
        return TargetCost()
