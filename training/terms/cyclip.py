"""Geometrical consistency of the two embedding spaces (CyCLIP, Goel et al., 2022)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.ranks.ring import F32, F64
from training.terms.across.settings import AcrossSettings
from training.terms.costs import Everyones, StepSizes, TermCost

if TYPE_CHECKING:
    from torch import Tensor

    from training.rows import Rows
    from training.terms.across.everyone import Everyone

_SQUARES = 8  # of D x D: three sums, their gradients, products of theirs


class Cyclip(AcrossSettings):
    """cross_modal x C + in_modal x I with C = 1/N sum_ij (x_i . y_j - x_j . y_i)^2, in which the similarity of two
    pairs is to be the same both ways, and I = 1/N sum_ij (x_i . x_j - y_i . y_j)^2, in which images are to be as
    close as their texts. The paper gives both a weight of 0.25, beside CLIP's loss.

    No two rows are ever compared: with A = sum x x', B = sum y y' and M = sum x y' (each D x D, summed over ranks),
    N C = 2 tr(A B) - 2 tr(M M) and N I = tr(A A) + tr(B B) - 2 tr(M' M). Metrics: `cross_modal`, `in_modal`.
    """

    kind: Literal["cyclip"] = "cyclip"
    cross_modal: float = Field(1.0, ge=0)
    in_modal: float = Field(1.0, ge=0)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"image", "text"})

    def costs(self, at: StepSizes) -> TermCost:
        """Three sums of D x D in float64, each one product forwards and two backwards."""
        across, D = Everyones(at, at.width("image"), 1), at.width("image")
        moved = across.begin() + 3 * at.summed(F64 * D * D)
        return TermCost(moved, 3 * 3 * 2 * at.rows * D * D, 12 * F32 * at.rows * D, _SQUARES * F64 * D * D)

    def value(self, features: "Rows", scalars: "Rows", everyone: "Everyone") -> "tuple[Tensor, Rows]":
        from training.terms.across.sums import all_products

        image_ND, text_ND = features["image"], features["text"]
        A, B = all_products(image_ND, image_ND, everyone), all_products(text_ND, text_ND, everyone)
        M = all_products(image_ND, text_ND, everyone)
        pairs = max(everyone.pairs, 1)
        cross = 2 * ((A * B).sum() - (M * M.T).sum()) / pairs
        inside = (A.square().sum() + B.square().sum() - 2 * M.square().sum()) / pairs
        return self.cross_modal * cross + self.in_modal * inside, {"cross_modal": cross, "in_modal": inside}
