"""Alignment and uniformity on the hypersphere (Wang & Isola, 2020)."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.terms.across.settings import AcrossSettings
from training.terms.costs import Everyones, StepSizes, TermCost

if TYPE_CHECKING:
    from torch import Tensor

    from training.rows import Rows
    from training.terms.across.everyone import Everyone


class UniformityAlignment(AcrossSettings):
    """mean |x_i - y_i|^alpha + uniformity x (U(images) + U(texts)) / 2, where U(z) is the logarithm of the mean of
    exp(-t |z_i - z_j|^2) over pairs of different rows. A pair met twice in a step is not held apart from itself.

    Metrics: `alignment`, `uniformity_image`, `uniformity_text`.
    """

    kind: Literal["uniformity_alignment"] = "uniformity_alignment"
    alpha: float = Field(2.0, ge=1, le=8)
    t: float = Field(2.0, gt=0, le=100)
    uniformity: float = Field(1.0, ge=0, description="weight of uniformity beside alignment")
    tile: int = Field(512, ge=1, description="side of the largest block of distances ever held")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"image", "text"})

    def costs(self, at: StepSizes) -> TermCost:
        across = Everyones(at, at.width("image"), self.tile)
        cost = across.swept(times=2, products=8, kept=3)
        return replace(cost, moved=cost.moved + across.begin() + across.sums(1 + 2 * 2))

    def value(self, features: "Rows", scalars: "Rows", everyone: "Everyone") -> "tuple[Tensor, Rows]":
        from training.terms.across.sums import all_mean

        image_ND, text_ND = features["image"], features["text"]
        alignment = all_mean((image_ND - text_ND).norm(dim=1).pow(self.alpha), everyone)
        image, text = self._uniformity(image_ND, everyone), self._uniformity(text_ND, everyone)
        metrics = {"alignment": alignment, "uniformity_image": image, "uniformity_text": text}
        return alignment + self.uniformity * (image + text) / 2, metrics

    def _uniformity(self, points_ND: "Tensor", everyone: "Everyone") -> "Tensor":
        """0 where nothing can be told from anything."""
        from training.terms.across.lse import rivals_lse
        from training.terms.across.sums import all_lse

        rivals = everyone.rivals()
        if not rivals:
            return 0 * all_lse(points_ND.new_zeros(1), everyone)
        lse_N = rivals_lse(self._closeness, (points_ND,), (points_ND,), (), everyone, self.tile)
        return all_lse(lse_N, everyone) - rivals.log()

    def _closeness(self, rows: "tuple[Tensor, ...]", others: "tuple[Tensor, ...]", _: "tuple[Tensor, ...]") -> "Tensor":
        """-t times the squared distances, by products: nothing of R x C x D is held."""
        (row_RD,), (other_CD,) = rows, others
        squares_RC = row_RD.square().sum(1)[:, None] + other_CD.square().sum(1)
        return -self.t * (squares_RC - 2 * row_RD @ other_CD.T)
