"""A masked view is to say of a picture what a slower model says of all of it: self-distillation as in MaskCLIP (Dong et
al., 2023), of the feature of the whole picture, with FLIP's patch dropout (Li et al., 2023) as the mask.

Letters: N rows on this rank, D features.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.ranks.ring import F32, F64
from training.terms.costs import StepSizes, TermCost
from training.terms.term import StepTerm, TermOutput, TermSettings
from training.wanted import Wanted

if TYPE_CHECKING:
    from training.ranks.peers import Peers
    from training.rows import Rows


class MaskedView(TermSettings):
    """Mean over the valid pairs of the squared distance between the feature of the picture without `share` of its
    patches and the teacher's of all of it, both of length one (2 - 2 cosine); no gradient through the teacher.

    The teacher is a momentum encoder, or any companion with vectors as wide. The towers look at the picture once more,
    at 1 - `share` of a look's cost; the other terms see it whole. Which patches: a draw keyed by (seed, epoch, uid).
    """

    kind: Literal["masked_view"] = "masked_view"
    share: float = Field(0.75, gt=0.0, lt=1.0, description="of the patches that the view lacks")
    teacher: str = Field("momentum", pattern=r"^[a-z][a-z0-9_]*$", description="name of what gives the whole's feature")

    def wanted(self) -> Wanted:
        return Wanted(columns=frozenset({f"{self.teacher}.image"}), masked=self.share)

    def costs(self, at: StepSizes) -> TermCost:
        return TermCost(at.summed(2 * F64), touched=6 * F32 * at.rows * at.width("masked"))

    def build(self) -> StepTerm:
        return MaskedViewTerm(self.teacher)


@dataclass(frozen=True)
class MaskedViewTerm:
    """Metrics: `cosine`, the mean over pairs."""

    teacher: str

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"masked"})

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> TermOutput:
        import torch

        from pipeline.errors import DataError

        view_ND, valid_N = features["masked"], rows["valid"]
        whole_ND = rows[f"{self.teacher}.image"]
        if whole_ND.shape[1] != view_ND.shape[1]:
            found = f"{self.teacher}.image has {whole_ND.shape[1]} numbers"
            raise DataError("masked_view", found, f"{view_ND.shape[1]}, as the model's own", "kind: feature_distill")
        apart_ND = torch.where(valid_N[:, None], view_ND - whole_ND.to(view_ND.dtype), 0)
        sums = torch.stack([apart_ND.square().sum(dtype=torch.float64), valid_N.double().sum()])
        total, pairs = peers.all_sum(sums).unbind()
        value = total / pairs.clamp(min=1)
        gradient_ND = apart_ND * (2 / pairs.clamp(min=1)).to(apart_ND.dtype)
        return TermOutput(value, {"masked": gradient_ND}, {}, {"cosine": 1 - value / 2})
