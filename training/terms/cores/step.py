"""What the cores have in common: a problem made ready, its exchange, sums over ranks, the pairs off the tiles."""

from dataclasses import replace

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.ends import ends_of
from training.terms.cores.exchange import EXCHANGES
from training.terms.cores.exchange.interface import Exchange
from training.terms.cores.interface import CoreOutput, Problem
from training.terms.cores.layout import lay_out
from training.terms.cores.positives import Side
from training.terms.cores.scores import Scores
from training.terms.cores.valid import valid_of
from training.terms.cores.weights import Weights

WIRES = {"fp32": None, "bf16": torch.bfloat16}


class Step:
    """One core at work on one step; a core says how it is `solved`."""

    def __init__(self, problem: Problem, targets: None, way: Exchange, sides: tuple[int, int], fused: bool) -> None:
        assert problem.owner_M is not None
        self.problem, self.targets, self.way, self.fused = problem, targets, way, fused
        self.layout, self.peers, self.owner_M = way.layout, way.peers, problem.owner_M
        self.images, self.texts, queue = problem.image_ND, problem.text_MD, problem.queue_ED
        self.row_RD = self.images if queue is None or not len(queue) else torch.cat([self.images, queue])
        self.scale = problem.log_scale.detach().to(self.images.dtype).exp().reshape(())
        self.scores = Scores(self.layout, way.rows("image", self.row_RD), self.scale, sides)
        self.ends = ends_of(problem, self.scores.row_RD, way)
        self.weights = Weights(problem, self.ends)

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


def solved(
    core: type[Step],
    problem: Problem,
    targets: None,
    peers: Peers,
    exchange: str,
    tile: int | tuple[int, int],
    wire: str,
    fused: bool,
) -> CoreOutput:
    sides = (tile, tile) if isinstance(tile, int) else tile
    with torch.no_grad(), torch.autocast(problem.image_ND.device.type, enabled=False):
        valid, kept = valid_of(problem)
        layout = lay_out(valid, peers)
        rounded = WIRES[wire] if peers.world > 1 else None
        if rounded is not None:
            valid = replace(valid, text_MD=_there_and_back(valid.text_MD, rounded))
            if exchange == "gather2":
                valid = replace(valid, image_ND=_there_and_back(valid.image_ND, rounded))
        way = EXCHANGES[exchange](layout, peers, sides, rounded)
        output = core(valid, targets, way, sides, fused and valid.image_ND.device.type == "cpu").solved()
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
