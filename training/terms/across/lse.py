"""log sum exp of each row's scores with its rivals on all ranks: two sweeps over tiles, the second one by autograd.

Traffic per rank: the candidates of all ranks once, their gradients once.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from training.terms.across.everyone import Everyone

Score = Callable[..., Tensor]
"""(tensors of R rows, tensors of C candidates, trained numbers) to scores [R, C], differentiable."""
Tensors = tuple[Tensor, ...]
_LOWEST = -1e30


def rivals_lse(
    score: Score, rows: Tensors, candidates: Tensors, scalars: Tensors, everyone: Everyone, tile: int
) -> Tensor:
    """log sum exp [N] over the candidates of all ranks that are not the row's own pair (told by its id).

    `rows`, `candidates`: any number of tensors, each with one entry for each row of this rank that counts. -inf for a
    row without a rival. `tile`: side of the largest block of scores ever held.
    """
    return _Lse.apply(score, (len(rows), len(candidates)), everyone, tile, *rows, *candidates, *scalars)


def dots(rows: Tensors, candidates: Tensors, scalars: Tensors) -> Tensor:
    """Inner products, times exp(the one scalar) where there is one."""
    products_RC = rows[0] @ candidates[0].T
    return products_RC * scalars[0].exp() if scalars else products_RC


class _Lse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, score: Score, sizes: tuple[int, int], everyone: Everyone, tile: int, *given: Tensor
    ) -> Tensor:
        many, more = sizes
        rows, scalars = given[:many], given[many + more :]
        every = tuple(everyone.gathered(own) for own in given[many : many + more])
        top_N = rows[0].new_full((len(rows[0]),), -torch.inf)
        total_N = torch.zeros_like(top_N)
        for r, c in tiles(len(top_N), everyone.pairs, tile):
            scores_RC = _hidden(score(_cut(rows, r), _cut(every, c), scalars), everyone, r, c)
            higher_R = torch.maximum(top_N[r], scores_RC.amax(1))
            shift_R = higher_R.clamp(min=_LOWEST)
            total_N[r] = total_N[r] * (top_N[r] - shift_R).exp() + (scores_RC - shift_R[:, None]).exp().sum(1)
            top_N[r] = higher_R
        lse_N = top_N + total_N.log()
        ctx.score, ctx.sizes, ctx.everyone, ctx.tile = score, sizes, everyone, tile
        ctx.save_for_backward(lse_N, *rows, *every, *scalars)
        return lse_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        lse_N, *saved = ctx.saved_tensors
        everyone, (many, more) = ctx.everyone, ctx.sizes
        totals = [torch.zeros_like(tensor) if tensor.is_floating_point() else None for tensor in saved]
        for r, c in tiles(len(lse_N), everyone.pairs, ctx.tile):
            where = [r] * many + [c] * more + [slice(None)] * (len(saved) - many - more)
            leaves = [tensor[cut].detach() for tensor, cut in zip(saved, where, strict=True)]
            asked = [leaf.requires_grad_() for leaf in leaves if leaf.is_floating_point()]
            with torch.enable_grad():
                parts = tuple(leaves[:many]), tuple(leaves[many : many + more]), tuple(leaves[many + more :])
                scores_RC = ctx.score(*parts)
            hidden_RC = _hidden(scores_RC.detach(), everyone, r, c)
            weight_RC = (hidden_RC - lse_N[r, None].clamp(min=_LOWEST)).exp_().mul_(grads[0][r, None])
            found = iter(torch.autograd.grad(scores_RC, asked, weight_RC, allow_unused=True, materialize_grads=True))
            for total, cut in zip(totals, where, strict=True):
                if total is not None:
                    total[cut] += next(found)
        for number in range(many, many + more):
            total = totals[number]
            if total is not None:
                totals[number] = everyone.peers.scatter_sum_rows(total, everyone.counts)
        return None, None, None, None, *totals


def _hidden(scores_RC: Tensor, everyone: Everyone, r: slice, c: slice) -> Tensor:
    """-inf where a row meets its own pair."""
    return scores_RC.masked_fill(everyone.ids_N[r, None] == everyone.every_ids_G[None, c], -torch.inf)


def tiles(rows: int, columns: int, tile: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, rows, tile):
        for left in range(0, columns, tile):
            yield slice(top, min(top + tile, rows)), slice(left, min(left + tile, columns))


def _cut(tensors: Tensors, where: slice) -> Tensors:
    return tuple(tensor[where] for tensor in tensors)
