"""InfoLOOB (Poole et al., 2019; as an objective of contrast: Fürst et al., 2022)."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.terms.across.settings import AcrossSettings
from training.terms.costs import Everyones, StepSizes, TermCost
from training.wanted import LOG_SCALE, Scalar

if TYPE_CHECKING:
    from torch import Tensor

    from training.rows import Rows
    from training.terms.across.everyone import Everyone


class Infoloob(AcrossSettings):
    """CLIP's loss with the pair left out of its own denominator, so that it does not saturate: of each image the log
    sum exp of its scores with all other texts, less its own score; of each text likewise; averaged. A row with no other
    pair beside it gives 0.
    """

    kind: Literal["infoloob"] = "infoloob"
    tile: int = Field(512, ge=1, description="side of the largest block of scores ever held")

    def scalars(self) -> tuple[Scalar, ...]:
        return (LOG_SCALE,)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"image", "text"})

    def costs(self, at: StepSizes) -> TermCost:
        """Each direction: scores twice, and both sides' gradients."""
        across = Everyones(at, at.width("text"), self.tile)
        cost = across.swept(times=2, products=8)
        return replace(cost, moved=cost.moved + across.begin() + across.sums(3))

    def value(self, features: "Rows", scalars: "Rows", everyone: "Everyone") -> "tuple[Tensor, Rows]":
        from training.terms.across.loob import left_out

        image_ND, text_ND, log_scale = features["image"], features["text"], scalars["log_scale"]
        i2t = left_out(image_ND, text_ND, log_scale, everyone, self.tile)
        t2i = left_out(text_ND, image_ND, log_scale, everyone, self.tile)
        return (i2t + t2i) / 2, {"loss_i2t": i2t, "loss_t2i": t2i}
