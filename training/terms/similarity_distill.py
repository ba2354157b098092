"""Distillation of similarities from several teachers: MobileCLIP (Vasu et al., 2024).

Letters: N rows on this rank, F numbers of a teacher's vector; R and C rows and columns of a tile.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from pipeline.settings import Settings
from training.ranks.ring import F64
from training.terms.costs import WIRES, StepSizes, TermCost, of_core
from training.terms.term import StepTerm, TermOutput, TermSettings
from training.wanted import LOG_SCALE, Scalar, Wanted

if TYPE_CHECKING:
    from torch import Tensor

    from training.ranks.peers import Peers
    from training.rows import Rows
    from training.terms.cores.exchange.interface import Tile
    from training.terms.cores.step import Step
    from training.terms.cores.targets import Shares
    from training.terms.targets.soft import Soft


class Taught(Settings):
    """A teacher: `name` before its columns, and the scale (one over the temperature) of its similarities."""

    name: str = Field("teacher", pattern=r"^[a-z][a-z0-9_]*$")
    scale: float = Field(100.0, gt=0.0, le=1e6)


class SimilarityDistill(TermSettings):
    """(1 - share) CLIP's loss + share / K sum over K teachers of the mean of both directions' KL divergence, from the
    teacher's softmax of its similarities within the step to the student's, which has the trained scale.

    `share` is MobileCLIP's lambda. The vectors are a frozen teacher's at work, or stored ones (companions `teacher`,
    `stored`). The same pair met twice in a step is left out of both. Exact gradients, in tiles, as CLIP's.
    """

    kind: Literal["similarity_distill"] = "similarity_distill"
    teachers: tuple[Taught, ...] = Field((Taught(),), min_length=1, max_length=16)
    share: float = Field(1.0, gt=0.0, le=1.0, description="of the teachers; the rest is CLIP's loss")
    exchange: Literal["gather", "gather2", "ring"] = "gather"
    tile: int = Field(512, ge=1, description="side of the largest block of scores ever held, in pairs")
    wire: Literal["fp32", "bf16"] = Field("fp32", description="what features travel in")

    @model_validator(mode="after")
    def _once_each(self) -> "SimilarityDistill":
        names = [one.name for one in self.teachers]
        if len({*names}) != len(names):
            raise ValueError(f"a teacher twice: {names}")
        return self

    def scalars(self) -> tuple[Scalar, ...]:
        return (LOG_SCALE,)

    def wanted(self) -> Wanted:
        return Wanted(columns=frozenset(f"{one.name}.{side}" for one in self.teachers for side in ("image", "text")))

    def costs(self, at: StepSizes) -> TermCost:
        """CLIP's core with the teachers' scores as its target, and the entropies of those."""
        from training.terms.cores.exchange.costs import CoreStep

        widths = tuple(at.width(f"{one.name}.text") for one in self.teachers)
        wire, tile = WIRES[self.wire], (self.tile, self.tile)
        width = at.width("image")
        step = CoreStep("softmax", self.exchange, at.ranks, at.rows, width, wire, tile, spread=True, soft=widths)
        by_teacher = 0 if self.exchange == "gather2" else len(widths)
        return of_core(step, (1 + by_teacher) * at.summed(2 * F64))

    def build(self) -> StepTerm:
        return SimilarityDistillTerm(self)


@dataclass(frozen=True)
class SimilarityDistillTerm:
    """Metrics: as CLIP's; `loss_i2t` and `loss_t2i` are what the value is the mean of."""

    settings: SimilarityDistill

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"image", "text"})

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> TermOutput:
        from training.terms.cores import CORES, Problem

        chosen, names = self.settings, [one.name for one in self.settings.teachers]
        problem = Problem(
            image_ND=features["image"],
            text_MD=features["text"],
            log_scale=scalars["log_scale"],
            valid_N=rows["valid"],
            ids_N=rows.get("id"),
            row_fields={name: rows[f"{name}.image"] for name in names},
            text_fields={name: rows[f"{name}.text"] for name in names},
        )
        target = _Teachers(chosen)
        found = CORES["softmax"](problem, target, peers, exchange=chosen.exchange, tile=chosen.tile, wire=chosen.wire)
        entropy = target.entropies(peers) * chosen.share
        value = (found.value.double() - entropy.mean()).to(found.value.dtype)
        metrics = {**found.metrics}
        for name, part in zip(("loss_i2t", "loss_t2i"), entropy, strict=True):
            metrics[name] = metrics[name] - part
        return TermOutput(
            value, {"image": found.d_image_ND, "text": found.d_text_MD}, {"log_scale": found.d_log_scale}, metrics
        )


@dataclass
class _Teachers:
    """A core's target for one step: the mean of the teachers' shares. A core gives the cross-entropy with it; what that
    lies above the divergence, the teachers' own entropy, is summed up here along with the sweep."""

    settings: SimilarityDistill
    positives: Literal["first", "all", "each"] = "all"
    smoothing: float = 0.0
    positive_margin: float = 0.0
    negative_margin: float = 0.0
    _softs: "list[Soft]" = field(default_factory=list)
    _step: "Step | None" = None
    _summed: "Tensor | None" = None  # float64 [2]: of rows, of columns, this rank's part

    @property
    def read(self) -> "dict[str, Tensor]":
        return {name: tensor for soft in self._softs for name, tensor in soft.read.items()}

    def spread(self, step: "Step") -> "_Teachers":
        import torch

        from training.terms.targets.soft import soft

        fields, part = (step.problem.row_fields, step.problem.text_fields), self.settings.share / self._many
        for one in self.settings.teachers:
            image_NF, text_NF = (of[one.name] for of in fields)
            self._softs.append(soft(step, image_NF, text_NF, one.scale, 0.0, part, f"target/{one.name}/"))
        self._step, self._summed = step, torch.zeros(2, dtype=torch.float64, device=step.images.device)
        return self

    def tile(self, tile: "Tile") -> "Shares":
        found: Shares | None = None
        for soft in self._softs:
            shares = soft.tile(tile)
            self._sum_up(tile, shares)
            if found is None:
                found = shares
            else:
                found.of_rows_RC.add_(shares.of_rows_RC)
                found.of_columns_RC.add_(shares.of_columns_RC)
        assert found is not None
        return found

    def entropies(self, peers: "Peers") -> "Tensor":
        """float64 [2]: the mean over rows, and over columns, of the teachers' entropies. Collective; once a step."""
        import torch

        assert self._step is not None and self._summed is not None
        off = peers.all_sum(self._summed)
        own = torch.zeros_like(off)
        for soft in self._softs:
            assert soft.sides is not None
            # A pair's loss is -log of its probability p, so its part of the entropy is -p log p.
            own += self._step.ends.total(*((-side.loss.double()).exp() * side.loss.double() for side in soft.sides))
        return (off + own) / (self._step.layout.pairs * self._many)

    @property
    def _many(self) -> int:
        return len(self.settings.teachers)

    def _sum_up(self, tile: "Tile", shares: "Shares") -> None:
        """Each probability of a rival once over all ranks, though tiles may reach beyond a rank's own."""
        import torch

        from training.terms.cores.problem.layout import common, length, within

        assert self._step is not None and self._summed is not None
        own, part = self._step.layout.own, self.settings.share / self._many
        rows = common(tile.rows, own.rows)
        columns = common(tile.columns, own.columns) if self._step.way.whole else tile.columns
        if tile.for_rows and length(rows):
            of_rows = shares.of_rows_RC[within(rows, tile.rows)]
            self._summed[0] += torch.special.entr(of_rows / part).sum(dtype=torch.float64)
        if tile.for_columns and length(columns):
            of_columns = shares.of_columns_RC[:, within(columns, tile.columns)]
            self._summed[1] += torch.special.entr(of_columns / part).sum(dtype=torch.float64)
