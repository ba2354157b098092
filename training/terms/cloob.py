"""CLOOB: modern Hopfield networks with InfoLOOB (Fürst et al., 2022)."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.terms.across.settings import AcrossSettings
from training.terms.costs import Everyones, StepSizes, TermCost

if TYPE_CHECKING:
    from torch import Tensor

    from training.rows import Rows
    from training.terms.across.everyone import Everyone


class Cloob(AcrossSettings):
    """Images and texts are replaced by what they retrieve from the step's images, and by what they retrieve from its
    texts, each normalised; InfoLOOB tells retrieved images apart by those of images, and retrieved texts by those of
    texts. The sum of both directions over `scale`, as in the paper, whose scale is fixed.
    """

    kind: Literal["cloob"] = "cloob"
    scale: float = Field(30.0, gt=0, le=1000, description="inverse temperature of the loss")
    beta: float = Field(8.0, gt=0, le=1000, description="inverse temperature of the retrieval")
    tile: int = Field(512, ge=1, description="side of the largest block of scores ever held")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"image", "text"})

    def costs(self, at: StepSizes) -> TermCost:
        """Four retrievals of 7 products each, two losses of 4. Of each, what was gathered stays for its gradient."""
        across = Everyones(at, at.width("image"), self.tile)
        cost = across.swept(times=6, products=4 * 7 + 2 * 4, kept=7)
        return replace(cost, moved=cost.moved + across.begin() + across.sums(2))

    def value(self, features: "Rows", scalars: "Rows", everyone: "Everyone") -> "tuple[Tensor, Rows]":
        from torch.nn.functional import normalize

        from training.terms.across.loob import left_out
        from training.terms.across.retrieval import retrieved

        def recalled(state: str, stored: str) -> "Tensor":
            return normalize(retrieved(features[state], features[stored], self.beta, everyone, self.tile), dim=1)

        log_scale = features["image"].new_full((1,), math.log(self.scale))
        of_images = recalled("image", "image"), recalled("text", "image")
        of_texts = recalled("text", "text"), recalled("image", "text")
        i2t = left_out(*of_images, log_scale, everyone, self.tile)
        t2i = left_out(*of_texts, log_scale, everyone, self.tile)
        return (i2t + t2i) / self.scale, {"loss_i2t": i2t, "loss_t2i": t2i}
