"""A classifier over many classes, each rank holding its share of them: UNICOM (An et al., 2023), MOFI's label head.

Letters: N rows on this rank, D features.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from training.ranks.ring import F32, I64
from training.terms.costs import StepSizes, TermCost, Trained
from training.terms.term import TermOutput, TermSettings
from training.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from training.ranks.peers import Peers
    from training.rows import Rows
    from training.terms.heads.sharded import Sharded


class LabelHead(TermSettings):
    """Softmax cross-entropy of scale x (cosine of feature and class - `margin` for the own class), a mean over the
    valid pairs that have a label: a whole number from 0 in KEY.json (a cluster, an entity), below `classes`.

    Each rank holds, and trains by an AdamW of its own, its share of the classes: nothing of their size is ever
    exchanged. They are no part of the model, nor of its gradient norm; the learning rate is the run's times `lr_scale`.
    """

    kind: Literal["label_head"] = "label_head"
    classes: int = Field(1000, ge=2, le=1 << 31)
    field: str = Field("label", description="of the label in KEY.json")
    of: Literal["image", "text"] = "image"
    scale: float = Field(64.0, gt=0.0)
    margin: float = Field(0.0, ge=0.0, le=2.0, description="taken off the cosine of the own class (CosFace, 2018)")
    tile: int = Field(16384, ge=1, description="most classes scored at a time on a rank")
    lr_scale: float = Field(1.0, ge=0.0)
    weight_decay: float = Field(0.0, ge=0.0)
    seed: int = Field(0, ge=0, description="of the classes' first weights")

    @model_validator(mode="after")
    def _named(self) -> "LabelHead":
        if "/" in self.field or not self.field:
            raise ValueError(f"field is {self.field!r}; expected the name of a number in KEY.json")
        return self

    def wanted(self) -> Wanted:
        return Wanted(fields=frozenset({self.field}))

    def costs(self, at: StepSizes) -> TermCost:
        """Scores twice, features' gradients, classes' gradients: each a product of all rows with the rank's classes."""
        from training.terms.heads.sharded import BLOCK

        b, G, D, held = at.rows, at.every, at.width(self.of), -(-self.classes // at.ranks)
        moved = at.gathered(I64 + b * (2 * D * F32 + I64)) + 4 * at.summed(G * F32)
        side = min(self.tile, held)
        beside = F32 * (3 * G * D + 3 * side * D + 3 * G * side)
        trained = Trained(held * D, self.classes * D, 1 + 3 * -(-self.classes // BLOCK), 1)
        return TermCost(moved, 4 * 2 * G * held * D, 10 * F32 * G * held, beside, trained)

    def build(self) -> "LabelHeadTerm":
        from training.terms.heads.sharded import Sharded

        return LabelHeadTerm(self, Sharded(self.classes, self.lr_scale, self.weight_decay, self.seed))


@dataclass(frozen=True)
class LabelHeadTerm:
    """Metrics: share of the labelled pairs whose own class scores highest without its margin (a tie is a miss), and
    their number. Labels that are no whole number, negative, or too large are of nobody."""

    settings: LabelHead
    head: "Sharded"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.settings.of})

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> TermOutput:
        import torch

        given_N = rows[self.settings.field].double()
        known_N = rows["valid"] & (given_N >= 0) & (given_N < self.settings.classes) & (given_N == given_N.floor())
        feature_ND, where = features[self.settings.of].detach(), known_N.nonzero()[:, 0]
        label_N = given_N[where].long()
        chosen = self.settings
        with torch.no_grad(), torch.autocast(feature_ND.device.type, enabled=False):
            found = self.head.loss(feature_ND[where], label_N, chosen.scale, chosen.margin, chosen.tile, peers)
        gradient_ND = torch.zeros_like(feature_ND).index_copy_(0, where, found.d_feature_ND)
        metrics = {"acc": found.accuracy, "labelled": found.rows}
        return TermOutput(found.value, {self.settings.of: gradient_ND}, {}, metrics)

    def after_step(self, lr: float, skipped: bool) -> None:
        self.head.after_step(lr, skipped)

    def state(self) -> "Iterator[tuple[str, Tensor]]":
        yield from self.head.state()

    def load(self, get: "Callable[[str], Tensor | None]") -> None:
        self.head.load(get)
