"""What the cores have in common beyond a sweep: targets, weights, values, the pairs off the tiles."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange import EXCHANGES
from training.terms.cores.exchange.interface import Exchange
from training.terms.cores.interface import CoreOutput, Problem
from training.terms.cores.positives import Side
from training.terms.cores.problem.layout import lay_out
from training.terms.cores.problem.valid import valid_of
from training.terms.cores.spreading import Spreading
from training.terms.cores.step import How, Step
from training.terms.cores.targets import Targets
from training.terms.cores.weights import Weights

WIRES = {"fp32": None, "bf16": torch.bfloat16}


class Solution(Step):
    """One core at work; a core says how it is `solved`."""

    def __init__(self, problem: Problem, way: Exchange, how: How, targets: Targets | None) -> None:
        super().__init__(problem, way, how)
        self.targets = targets
        self.weights = Weights(problem, self.ends)
        self.spreading = Spreading(self, targets, self.weights)

    def solved(self) -> CoreOutput:
        raise NotImplementedError

    def values(self, rows: Side, columns: Side) -> tuple[Tensor, dict[str, Tensor]]:
        i2t, t2i, i2t_hits, t2i_hits = self.weights.means(rows, columns).unbind()
        pairs = torch.tensor(self.layout.pairs, dtype=torch.float64, device=i2t.device)
        metrics = {"loss_i2t": i2t, "loss_t2i": t2i, "acc_i2t": i2t_hits, "acc_t2i": t2i_hits, "pairs": pairs}
        return ((i2t + t2i) / 2).to(self.images.dtype), metrics

    def add_own(self, d_image: Tensor, d_text_MD: Tensor, own_M: Tensor) -> None:
        """The pairs themselves, off the tiles: exact even where a probability rounds to 1."""
        N = len(self.images)
        d_image.addcmul_(own_M[:N, None], self.texts[:N])
        d_text_MD[:N].addcmul_(own_M[:N, None], self.images)
        if len(own_M) > N and N:
            row_M = self.owner_M[N:].clamp(min=0)
            owned_M = torch.where(self.owner_M[N:] < 0, 0, own_M[N:])[:, None]
            d_image.index_add_(0, row_M, owned_M * self.texts[N:])
            d_text_MD[N:].addcmul_(owned_M, self.images[row_M])

    def d_log_scale(self, d_image: Tensor, d_text: Tensor) -> Tensor:
        """S is linear in the scale, so sum(dS * S) is sum(x . dx), or sum(y . dy): D products a row instead of G."""
        by_image = self.layout.rows == self.layout.pairs  # a queue has no gradient, though it has a part in this
        pair = (self.images, d_image) if by_image else (self.texts, d_text)
        if self.way.whole:
            counts = self.layout.row_pairs if by_image else self.layout.column_counts
            total = self.ends.total_of_own(_dots(*pair), counts)
        else:
            total = self.peers.all_sum(_dot(*pair).reshape(1))
        return total.to(d_image.dtype).reshape(self.problem.log_scale.shape)


def solve(
    core: Callable[[Problem, Exchange, How, Targets | None], Solution],
    problem: Problem,
    targets: Targets | None,
    peers: Peers,
    exchange: str,
    wire: str,
    how: How,
) -> CoreOutput:
    with torch.no_grad(), torch.autocast(problem.image_ND.device.type, enabled=False):
        valid, kept = valid_of(problem)
        layout = lay_out(valid, peers)
        rounded = WIRES[wire] if peers.world > 1 else None
        if rounded is not None:
            valid = replace(valid, text_MD=_there_and_back(valid.text_MD, rounded))
            if exchange == "gather2":
                valid = replace(valid, image_ND=_there_and_back(valid.image_ND, rounded))
        way = EXCHANGES[exchange](layout, peers, how.tile, rounded)
        how = replace(how, fused=how.fused and valid.image_ND.device.type == "cpu")
        output = core(valid, way, how, targets).solved()
        d_image, d_text = kept.restored(output.d_image_ND, output.d_text_MD)
    return replace(output, d_image_ND=d_image, d_text_MD=d_text)


def _there_and_back(tensor: Tensor, wire: torch.dtype) -> Tensor:
    return tensor.to(wire).to(tensor.dtype)


def _dot(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    """Sum of products in float64, without a float64 copy of all."""
    parts = [(a.double() * b.double()).sum() for a, b in zip(a_ND.split(1024), b_ND.split(1024), strict=True)]
    return torch.stack(parts).sum()


def _dots(a_ND: Tensor, b_ND: Tensor) -> Tensor:
    parts = [(a * b).sum(1) for a, b in zip(a_ND.split(1024), b_ND.split(1024), strict=True)]
    return torch.cat(parts)
