"""Retrieval from a modern Hopfield network (Ramsauer et al., 2021) that stores the rows of all ranks: one update.

Traffic per rank: the stored rows of all ranks once, their gradients once.
"""

from typing import Any

import torch
from torch import Tensor

from training.terms.across.everyone import Everyone
from training.terms.across.lse import tiles


def retrieved(states_ND: Tensor, stored_ND: Tensor, beta: float, everyone: Everyone, tile: int) -> Tensor:
    """softmax(beta states . stored) stored [N, D], over the stored rows of all ranks, the row's own among them."""
    return _Retrieved.apply(states_ND, stored_ND, beta, everyone, tile)


class _Retrieved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_ND: Tensor, stored_ND: Tensor, beta: float, everyone: Everyone, tile: int) -> Tensor:
        every_GD = everyone.gathered(stored_ND)
        found_ND = torch.zeros_like(states_ND)
        top_N = states_ND.new_full((len(states_ND), 1), -torch.inf)
        total_N = torch.zeros_like(top_N)
        for r, c in tiles(len(states_ND), everyone.pairs, tile):
            scores_RC = beta * states_ND[r] @ every_GD[c].T
            higher_R = torch.maximum(top_N[r], scores_RC.amax(1, keepdim=True))
            kept_R = (top_N[r] - higher_R).exp()
            share_RC = (scores_RC - higher_R).exp_()
            total_N[r] = total_N[r] * kept_R + share_RC.sum(1, keepdim=True)
            found_ND[r] = found_ND[r] * kept_R + share_RC @ every_GD[c]
            top_N[r] = higher_R
        found_ND /= total_N
        ctx.beta, ctx.everyone, ctx.tile = beta, everyone, tile
        ctx.save_for_backward(states_ND, every_GD, found_ND, top_N + total_N.log())
        return found_ND

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        states_ND, every_GD, found_ND, lse_N = ctx.saved_tensors
        given_ND, beta = grads[0], ctx.beta
        d_states_ND, d_every_GD = torch.zeros_like(states_ND), torch.zeros_like(every_GD)
        mean_N = (given_ND * found_ND).sum(1, keepdim=True)
        for r, c in tiles(len(states_ND), ctx.everyone.pairs, ctx.tile):
            share_RC = (beta * states_ND[r] @ every_GD[c].T - lse_N[r]).exp_()
            d_scores_RC = beta * share_RC * (given_ND[r] @ every_GD[c].T - mean_N[r])
            d_states_ND[r] += d_scores_RC @ every_GD[c]
            d_every_GD[c] += d_scores_RC.T @ states_ND[r] + share_RC.T @ given_ND[r]
        d_stored_ND = ctx.everyone.peers.scatter_sum_rows(d_every_GD, ctx.everyone.counts)
        return d_states_ND, d_stored_ND, None, None, None
