"""Views of a picture told from those of others: SimCLR (Chen et al., 2020) beside CLIP (SLIP, Mu et al., 2022)."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from training.ranks.ring import F32
from training.terms.costs import WIRES, StepSizes, TermCost, of_core
from training.terms.term import StepTerm, TermSettings
from training.wanted import Head, Scalar, Wanted

if TYPE_CHECKING:
    from torch import Tensor

    from training.ranks.peers import Peers
    from training.rows import Rows
    from training.terms.term import TermOutput

OUTPUT = "projected"


class Views(TermSettings):
    """NT-Xent over both views of all pictures of all ranks, behind a projection head that no export holds. A picture
    met twice in a step is no rival of itself. `train.image.views` says how views are augmented.

    count     1: the picture as the model sees it, and a view of it; 2: two further views, as in SLIP
    scale     inverse temperature (SLIP: 10); none: trained, as `views_log_scale`

    Metrics: `acc`, the share of views whose partner scores above all others.
    """

    kind: Literal["views"] = "views"
    count: Literal[1, 2] = 2
    scale: float | None = Field(10.0, gt=0, le=100)
    hidden: int = Field(4096, ge=1, le=1 << 16, description="width of the head's layers")
    width: int = Field(256, ge=1, le=1 << 16, description="width of what is compared")
    exchange: Literal["gather", "gather2", "ring"] = "gather"
    tile: int = Field(512, ge=1, description="side of the largest block of scores ever held, in views")
    wire: Literal["fp32", "bf16"] = Field("fp32", description="what features travel in")

    def scalars(self) -> tuple[Scalar, ...]:
        from math import log

        return () if self.scale is not None else (Scalar("views_log_scale", log(10), 0.0, log(100)),)

    def heads(self) -> tuple[Head, ...]:
        return (Head(OUTPUT, self.hidden, self.width),)

    def wanted(self) -> Wanted:
        return Wanted(views=self.count)

    def costs(self, at: StepSizes) -> TermCost:
        """A core's of two rows a picture; joined, and taken apart, they lie there twice more."""
        from training.terms.cores.exchange.costs import CoreStep

        width, tile = at.width(f"views/{OUTPUT}"), (self.tile, self.tile)
        step = CoreStep("softmax", self.exchange, at.ranks, 2 * at.rows, width, WIRES[self.wire], tile)
        cost = of_core(step)
        return replace(cost, held=cost.held + 6 * F32 * 2 * at.rows * width)

    def build(self) -> StepTerm:
        return ViewsTerm(self)


class ViewsTerm:
    """CLIP's core with the views of each picture as its rows and their partners as the columns: what stands in the way
    of NT-Xent, a view meeting itself, is the partner's column of the same picture, and those are no rivals."""

    def __init__(self, settings: Views) -> None:
        self._settings = settings

    @property
    def needs(self) -> frozenset[str]:
        views = {f"views/{OUTPUT}"}
        return frozenset(views if self._settings.count == 2 else views | {OUTPUT})

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> "TermOutput":
        import torch

        from training.terms.cores import CORES, Problem
        from training.terms.term import TermOutput

        chosen, views_MD = self._settings, features[f"views/{OUTPUT}"]
        one_ND, other_ND = (features[OUTPUT], views_MD) if chosen.count == 1 else (views_MD[0::2], views_MD[1::2])
        log_scale = views_MD.new_tensor([chosen.scale or 1.0]).log() if chosen.scale else scalars["views_log_scale"]
        problem = Problem(
            image_ND=torch.cat([one_ND, other_ND]),
            text_MD=torch.cat([other_ND, one_ND]),
            log_scale=log_scale,
            valid_N=rows["valid"].repeat(2),
            ids_N=rows["id"].repeat(2),
        )
        found = CORES["softmax"](problem, None, peers, exchange=chosen.exchange, tile=chosen.tile, wire=chosen.wire)
        d_one, d_other = found.d_image_ND.chunk(2)
        d_other_too, d_one_too = found.d_text_MD.chunk(2)
        d_one, d_other = d_one + d_one_too, d_other + d_other_too
        grads = self._grads(d_one, d_other)
        d_scalars = {} if chosen.scale else {"views_log_scale": found.d_log_scale}
        return TermOutput(found.value, grads, d_scalars, {"acc": found.metrics["acc_i2t"]})

    def _grads(self, d_one_ND: "Tensor", d_other_ND: "Tensor") -> "Rows":
        import torch

        if self._settings.count == 1:
            return {OUTPUT: d_one_ND, f"views/{OUTPUT}": d_other_ND}
        return {f"views/{OUTPUT}": torch.stack([d_one_ND, d_other_ND], 1).flatten(0, 1)}
