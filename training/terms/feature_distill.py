"""The teacher's features as what the student's are to be: feature distillation of CLIP-KD (Yang et al., 2024).

Letters: N rows on this rank, D features of the student, F of the teacher.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.ranks.ring import F32, F64
from training.terms.costs import StepSizes, TermCost, Trained
from training.terms.term import TermOutput, TermSettings
from training.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from training.ranks.peers import Peers
    from training.rows import Rows
    from training.terms.heads.replicated import Replicated


class FeatureDistill(TermSettings):
    """Mean over the valid pairs of the distance between student and teacher: of images, of texts, or of both the sum.

    mse     squared distance of the vectors, a sum over their elements
    cosine  1 - cosine

    Where widths differ, or with `project`, a linear map of the student's features stands between, with an AdamW of its
    own at the run's learning rate (times `lr_scale`); it is no part of the model, nor of its gradient norm.
    """

    kind: Literal["feature_distill"] = "feature_distill"
    teacher: str = Field("teacher", pattern=r"^[a-z][a-z0-9_]*$", description="name of what gives its vectors")
    of: Literal["image", "text", "both"] = "both"
    distance: Literal["mse", "cosine"] = "mse"
    project: bool = Field(False, description="a map even where widths are equal")
    lr_scale: float = Field(1.0, ge=0.0)
    weight_decay: float = Field(0.0, ge=0.0)
    seed: int = Field(0, ge=0, description="of the map")

    @property
    def sides(self) -> tuple[str, ...]:
        return ("image", "text") if self.of == "both" else (self.of,)

    def wanted(self) -> Wanted:
        return Wanted(columns=frozenset(f"{self.teacher}.{side}" for side in self.sides))

    def costs(self, at: StepSizes) -> TermCost:
        """A map is a product forwards and two backwards, and its gradients are summed over ranks."""
        sizes = [(at.width(side), at.width(f"{self.teacher}.{side}")) for side in self.sides]
        maps = [D * F for D, F in sizes if D != F or self.project]
        moved = at.summed(F64) + at.summed(F64 * len(sizes)) + sum(at.summed(F32 * size) for size in maps)
        numbers = at.rows * sum(2 * D + 4 * F for D, F in sizes)
        trained = Trained(sum(maps), sum(maps), 4 * len(maps), len(maps))
        return TermCost(moved, 3 * 2 * at.rows * sum(maps), 2 * F32 * numbers, F32 * sum(maps), trained)

    def build(self) -> "FeatureDistillTerm":
        from training.terms.heads.replicated import Replicated

        return FeatureDistillTerm(self, Replicated(self.lr_scale, self.weight_decay, self.seed))


@dataclass(frozen=True)
class FeatureDistillTerm:
    """Metrics: the mean distance of each side."""

    settings: FeatureDistill
    maps: "Replicated" = field(repr=False)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.settings.sides)

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> TermOutput:
        import torch

        valid_N = rows["valid"]
        pairs = peers.all_sum(valid_N.double().sum()).clamp_(min=1)
        leaves = {side: features[side].detach().requires_grad_() for side in self.settings.sides}
        mapped = {side: self._map(side, leaf, rows) for side, leaf in leaves.items()}
        used = [weight for weight in mapped.values() if weight is not None]
        with torch.enable_grad(), torch.autocast(valid_N.device.type, enabled=False):
            sums = [self._distance(leaf, mapped[side], rows, side, valid_N) for side, leaf in leaves.items()]
            total = torch.stack(sums).sum() / pairs.to(sums[0].dtype)
            grads = torch.autograd.grad(total, [*leaves.values(), *used])
        means = peers.all_sum(torch.stack([part.detach().double() for part in sums])) / pairs
        summed = iter(peers.all_sum(grad) for grad in grads[len(leaves) :])
        self.maps.gradients = {side: next(summed) for side, weight in mapped.items() if weight is not None}
        metrics = {f"distance_{side}": mean for side, mean in zip(leaves, means, strict=True)}
        return TermOutput(means.sum(), dict(zip(leaves, grads[: len(leaves)], strict=True)), {}, metrics)

    def _map(self, side: str, feature_ND: "Tensor", rows: "Rows") -> "Tensor | None":
        """[F, D], or None where vectors are compared as they are."""
        shape = rows[f"{self.settings.teacher}.{side}"].shape[1], feature_ND.shape[1]
        if shape[0] == shape[1] and not self.settings.project:
            return None
        return self.maps.weight(side, shape, feature_ND)

    def _distance(
        self, feature_ND: "Tensor", weight_FD: "Tensor | None", rows: "Rows", side: str, valid_N: "Tensor"
    ) -> "Tensor":
        import torch
        import torch.nn.functional as F

        kept_ND = feature_ND[valid_N]
        student_NF = kept_ND if weight_FD is None else kept_ND @ weight_FD.T
        teacher_NF = rows[f"{self.settings.teacher}.{side}"][valid_N].to(student_NF.dtype)
        if self.settings.distance == "cosine":
            return (1 - F.cosine_similarity(student_NF, teacher_NF, dim=1)).sum()
        return torch.square(student_NF - teacher_NF).sum()

    def after_step(self, lr: float, skipped: bool) -> None:
        self.maps.after_step(lr, skipped)

    def state(self) -> "Iterator[tuple[str, Tensor]]":
        yield from self.maps.state()

    def load(self, get: "Callable[[str], Tensor | None]") -> None:
        self.maps.load(get)
