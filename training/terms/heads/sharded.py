"""Classes shared out over the ranks: softmax over all of them without a matrix of all on any rank (ArcFace, 2019).

Features travel (gathered, their gradients summed where they came from) and a few numbers a row; classes never do.

Letters: N labelled rows on this rank, G on all ranks, C classes of this rank, T of one tile, D features.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.draws import keyed_u64
from pipeline.errors import DataError
from training.ranks.peers import Peers

BLOCK = 8192  # classes in one tensor of a checkpoint, and drawn together: whatever the number of ranks
_PARTS = ("param", "exp_avg", "exp_avg_sq")
_BETAS, _EPS = (0.9, 0.98), 1e-6


@dataclass(frozen=True)
class HeadOutput:
    value: Tensor  # 0-dim, as the others: of all ranks, the same on each
    d_feature_ND: Tensor  # of this rank's rows
    accuracy: Tensor
    rows: Tensor


class Sharded:
    """The share of rank r are the classes from r ceil(classes / W) on. Made when it is first asked for."""

    def __init__(self, classes: int, lr_scale: float, weight_decay: float, seed: int) -> None:
        self._classes, self._lr_scale, self._decay, self._seed = classes, lr_scale, weight_decay, seed
        self._get: Callable[[str], Tensor | None] | None = None
        self._peers: Peers | None = None

    def _make(self, width: int, like: Tensor, peers: Peers) -> None:
        """Drawn by blocks of classes, or as a checkpoint has them: the same for any number of ranks."""
        size = -(-self._classes // peers.world)
        self._peers, self._first = peers, min(size * peers.rank, self._classes)
        held = min(size, self._classes - self._first)
        weight = torch.empty(held, width, dtype=like.dtype, device=like.device)
        self._weight = weight.requires_grad_()
        self._optimizer = torch.optim.AdamW([weight], betas=_BETAS, eps=_EPS, weight_decay=self._decay)
        zeros = {key: torch.zeros_like(weight, requires_grad=False) for key in _PARTS[1:]}
        self._optimizer.state[weight] = {"step": torch.zeros(()), **zeros}
        self._gradient: Tensor | None = None
        for start in range(0, self._classes, BLOCK):
            stop = min(start + BLOCK, self._classes)
            first, last = max(start, self._first), min(stop, self._first + held)
            if first < last:
                self._fill(
                    start, stop, slice(first - start, last - start), slice(first - self._first, last - self._first)
                )
        step = self._get("step") if self._get else None
        if step is not None:
            self._optimizer.state[weight]["step"].copy_(step)
        self._get = None

    def _fill(self, start: int, stop: int, block: slice, own: slice) -> None:
        width = self._weight.shape[1]
        for part, tensor in self._tensors().items():
            found = self._get(f"{part}/{start}") if self._get else None
            if found is None and part == "param":
                drawn = torch.Generator().manual_seed(keyed_u64(self._seed, "classes", start, "") >> 1)
                found = torch.randn(stop - start, width, generator=drawn)
            if found is None:
                continue
            if tuple(found.shape) != (stop - start, width):
                words = f"has shape {tuple(found.shape)}", f"{(stop - start, width)} for {self._classes} classes"
                raise DataError(f"checkpoint, label head {part}/{start}", *words, "put `classes` and the model back")
            tensor.data[own] = found[block].to(tensor)

    def _tensors(self) -> dict[str, Tensor]:
        state = self._optimizer.state[self._weight]
        return {"param": self._weight} | {key: state[key] for key in _PARTS[1:]}

    def loss(
        self, feature_ND: Tensor, label_N: Tensor, scale: float, margin: float, tile: int, peers: Peers
    ) -> HeadOutput:
        """Collective. Two sweeps over this rank's classes, `tile` at a time: sums of exponentials, then gradients."""
        if self._peers is None:
            self._make(feature_ND.shape[1], feature_ND, peers)
        feature_GD, counts = peers.gather_rows(feature_ND)
        label_G, _ = peers.gather_rows(label_N, counts)
        G = len(feature_GD)
        unit_GD, length_G = _unit(feature_GD)
        tiles = [slice(at, min(at + tile, len(self._weight))) for at in range(0, len(self._weight), tile)]
        top_G, total_G, own_G, rival_G = self._sums(unit_GD, label_G, scale, margin, tiles)
        most_G = peers.all_max(top_G)
        lse_G = most_G + peers.all_sum(total_G * (top_G - most_G).exp()).log()
        own_G, rival_G = peers.all_sum(own_G), peers.all_max(rival_G)
        d_unit_GD, d_weight = torch.zeros_like(unit_GD), torch.zeros_like(self._weight, requires_grad=False)
        for where in tiles:
            unit_TD, length_T = _unit(self._weight[where].detach())
            scores_GT = self._scores(unit_GD, unit_TD, label_G, where, scale, margin)
            d_scores_GT = (scores_GT - lse_G[:, None]).exp_()
            d_scores_GT[self._own(label_G, where)] -= 1.0
            d_scores_GT *= scale / max(G, 1)
            d_unit_GD.addmm_(d_scores_GT, unit_TD)
            d_weight[where] = _through_unit(d_scores_GT.T @ unit_GD, unit_TD, length_T)
        self._gradient = d_weight
        own_ND = peers.scatter_sum_rows(d_unit_GD, counts)
        start = sum(counts[: peers.rank])
        mine = slice(start, start + len(feature_ND))
        hits = (own_G + scale * margin > rival_G).double()
        mean = max(G, 1)
        return HeadOutput(
            (lse_G - own_G).double().sum() / mean,
            _through_unit(own_ND, unit_GD[mine], length_G[mine]),
            hits.sum() / mean,
            torch.tensor(float(G), dtype=torch.float64, device=feature_ND.device),
        )

    def _own(self, label_G: Tensor, where: slice) -> tuple[Tensor, Tensor]:
        """Rows whose own class is in the tile, and where in it."""
        at_G = label_G - self._first - where.start
        row = ((at_G >= 0) & (at_G < where.stop - where.start)).nonzero()[:, 0]
        return row, at_G[row]

    def _scores(
        self, unit_GD: Tensor, unit_TD: Tensor, label_G: Tensor, where: slice, scale: float, margin: float
    ) -> Tensor:
        scores_GT = (unit_GD @ unit_TD.T).mul_(scale)
        if margin:
            scores_GT[self._own(label_G, where)] -= scale * margin
        return scores_GT

    def _sums(
        self, unit_GD: Tensor, label_G: Tensor, scale: float, margin: float, tiles: list[slice]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of this rank's classes: the largest score, the sum of exponentials below it, the own class's score (0 where
        it is another rank's) and the largest of the others."""
        lowest = torch.finfo(unit_GD.dtype).min
        top_G = unit_GD.new_full((len(unit_GD),), lowest)
        total_G, own_G, rival_G = torch.zeros_like(top_G), torch.zeros_like(top_G), top_G.clone()
        for where in tiles:
            unit_TD, _ = _unit(self._weight[where].detach())
            scores_GT = self._scores(unit_GD, unit_TD, label_G, where, scale, margin)
            new_G = torch.maximum(top_G, scores_GT.amax(1))
            total_G = total_G * (top_G - new_G).exp() + (scores_GT - new_G[:, None]).exp().sum(1)
            top_G = new_G
            own = self._own(label_G, where)
            own_G[own[0]] = scores_GT[own]
            scores_GT[own] = lowest
            rival_G = torch.maximum(rival_G, scores_GT.amax(1))
        return top_G, total_G, own_G, rival_G

    def after_step(self, lr: float, skipped: bool) -> None:
        if self._peers is None or self._gradient is None:
            return
        if not skipped:
            self._weight.grad = self._gradient
            self._optimizer.param_groups[0]["lr"] = lr * self._lr_scale
            self._optimizer.step()
            self._weight.grad = None
        self._gradient = None

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Blocks of classes, each whole on every rank; what was not asked for yet, as it was found."""
        if self._peers is None:
            yield from self._as_found()
            return
        yield "step", self._optimizer.state[self._weight]["step"].cpu()
        for start in range(0, self._classes, BLOCK):
            stop = min(start + BLOCK, self._classes)
            here = slice(max(start - self._first, 0), max(min(stop - self._first, len(self._weight)), 0))
            for part, tensor in self._tensors().items():
                yield f"{part}/{start}", self._peers.gather_rows(tensor.detach()[here])[0].cpu()

    def _as_found(self) -> Iterator[tuple[str, Tensor]]:
        names = ["step", *(f"{part}/{start}" for start in range(0, self._classes, BLOCK) for part in _PARTS)]
        for name in names if self._get else ():
            tensor = self._get(name) if self._get else None
            if tensor is not None:
                yield name, tensor

    def load(self, get: Callable[[str], Tensor | None]) -> None:
        self._get = get


def _unit(vectors_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of length 1, and the lengths they had."""
    length_N = vectors_ND.norm(dim=1).clamp_(min=math.sqrt(torch.finfo(vectors_ND.dtype).tiny))
    return F.normalize(vectors_ND, dim=1), length_N


def _through_unit(d_unit_ND: Tensor, unit_ND: Tensor, length_N: Tensor) -> Tensor:
    """The gradient with respect to vectors, from that with respect to their directions."""
    return (d_unit_ND - unit_ND * (d_unit_ND * unit_ND).sum(1, keepdim=True)) / length_N[:, None]
