"""Sums over the rows of all ranks, the same number on each."""

from typing import Any

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.across.everyone import Everyone

_BLOCK = 4096  # rows turned into float64 at a time


def all_sum(values_N: Tensor, everyone: Everyone) -> Tensor:
    """The sum over all ranks' entries (0-dim float64)."""
    return _Sum.apply(values_N, everyone.peers)


def all_mean(values_N: Tensor, everyone: Everyone) -> Tensor:
    """Over the rows of all ranks that count (0-dim float64); 0 where there is none."""
    return all_sum(values_N, everyone) / max(everyone.pairs, 1)


def all_lse(values_N: Tensor, everyone: Everyone) -> Tensor:
    """log sum exp over all ranks' entries (0-dim float64); -inf where there is none."""
    return _Lse.apply(values_N, everyone.peers)


def all_products(left_ND: Tensor, right_NE: Tensor, everyone: Everyone) -> Tensor:
    """The sum of x y' over all ranks' rows (float64 [D, E]): differences of traces of it keep float32's digits."""
    return _Products.apply(left_ND, right_NE, everyone.peers)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_N: Tensor, peers: Peers) -> Tensor:
        ctx.save_for_backward(values_N)
        return peers.all_sum(values_N.double().sum())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (values_N,) = ctx.saved_tensors
        return grads[0].to(values_N.dtype).expand_as(values_N), None


class _Lse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_N: Tensor, peers: Peers) -> Tensor:
        wide_N = values_N.double()
        top = peers.all_max(torch.cat([wide_N, wide_N.new_full((1,), -torch.inf)]).max())
        shift = top.nan_to_num(neginf=0.0)
        total = shift + peers.all_sum((wide_N - shift).exp().sum()).log()
        ctx.save_for_backward(values_N, total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        values_N, total = ctx.saved_tensors
        share_N = (values_N.double() - total.nan_to_num(neginf=0.0)).exp()
        return (grads[0] * share_N).to(values_N.dtype), None


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left_ND: Tensor, right_NE: Tensor, peers: Peers) -> Tensor:
        ctx.save_for_backward(left_ND, right_NE)
        total_DE = left_ND.new_zeros((left_ND.shape[1], right_NE.shape[1]), dtype=torch.float64)
        for left, right in zip(left_ND.split(_BLOCK), right_NE.split(_BLOCK), strict=True):
            total_DE += left.double().T @ right.double()
        return peers.all_sum(total_DE)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        left_ND, right_NE = ctx.saved_tensors
        d_DE = grads[0].to(left_ND.dtype)
        return right_NE @ d_DE.T, left_ND @ d_DE, None
