"""Late interaction: pairs compared token by token (FILIP, Yao et al., 2022), those of all ranks, in tiles of pairs.

Letters: N pairs of this rank that count, G of all ranks; R and C of one tile; P patches, L words, D features.

To an image a text is as near as the mean over its patches of the text's nearest word; to a text an image is as near as
the mean over its words of the image's nearest patch. Two numbers, so each direction of the loss has one of its own.

Words travel, patches stay. Traffic per rank: words and their mask of all ranks once, the words' gradients once; of each
text two numbers are all-reduced, one is gathered. Products: four of (N P) x (G L) x D, and nothing larger than a tile.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.terms.across.everyone import Everyone
from training.terms.across.lse import tiles

_LOWEST = -1e30
_BLOCK = 64  # pairs whose own patches and words are compared at a time


class Side(NamedTuple):
    """Of one direction, [N] each: log sum exp of the scores with rivals (-inf without one), the own score, and the
    largest of a rival (no gradient)."""

    rivals: Tensor
    own: Tensor
    top: Tensor


def told_apart(
    patch_NPD: Tensor, word_NLD: Tensor, mask_NL: Tensor, log_scale: Tensor, everyone: Everyone, tile: int
) -> tuple[Side, Side]:
    """Images told apart by texts, and texts by images. Rivals are the pairs of all ranks with another id.

    `mask_NL`: float, 1 where a word counts; each text has one that does. `tile`: pairs on each side of the largest
    block ever held: (tile P) x (tile L) products, and as much again in the first sweep for what is not masked.
    """
    found = _Told.apply(everyone, tile, patch_NPD, word_NLD, mask_NL, log_scale)
    return Side(*found[:3]), Side(*found[3:])


@torch.no_grad()
def nearest(patch_NPD: Tensor, word_NLD: Tensor, mask_NL: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """(indices of patches [N, K], of words [N, M], mask of those words): the `share` of each that is nearest to the
    other side of its own pair, rounded up. Of a text's words those that count alone, and a share of those."""
    most_P, most_L = (math.ceil(share * size) for size in (patch_NPD.shape[1], word_NLD.shape[1]))
    patches, words = [], []
    for at in range(0, max(len(patch_NPD), 1), _BLOCK):
        cut = slice(at, at + _BLOCK)
        products_NPL = patch_NPD[cut] @ word_NLD[cut].transpose(1, 2)
        hidden_NL = mask_NL[cut] == 0
        words.append(products_NPL.amax(1).masked_fill_(hidden_NL, -torch.inf).topk(most_L, dim=1).indices)
        nearest_NP = products_NPL.masked_fill_(hidden_NL[:, None], -torch.inf).amax(2)
        patches.append(nearest_NP.topk(most_P, dim=1).indices)
    kept_N = (mask_NL.double().sum(1) * share).ceil()
    mask_NM = (torch.arange(most_L, device=mask_NL.device) < kept_N[:, None]).to(mask_NL.dtype)
    return torch.cat(patches), torch.cat(words), mask_NM


class _Best(NamedTuple):
    """A tile's similarities in both directions, the words and patches that made them, and its products' memory."""

    i2t_RC: Tensor
    t2i_RC: Tensor
    word_RPC: Tensor
    patch_RCL: Tensor
    products_RPCL: Tensor


def _best(patch_RPD: Tensor, word_CLD: Tensor, mask_CL: Tensor, share_CL: Tensor) -> _Best:
    (R, P, _), (C, L, _) = patch_RPD.shape, word_CLD.shape
    products_RPCL = (patch_RPD.flatten(0, 1) @ word_CLD.flatten(0, 1).T).view(R, P, C, L)
    to_patch_RCL = products_RPCL.max(1)
    to_word_RPC = products_RPCL.masked_fill_(mask_CL == 0, -torch.inf).max(3)
    i2t_RC, t2i_RC = to_word_RPC.values.mean(1), (to_patch_RCL.values * share_CL).sum(2)
    return _Best(i2t_RC, t2i_RC, to_word_RPC.indices, to_patch_RCL.indices, products_RPCL)


class _Running:
    """Largest score and sum of exponentials of rows or of columns, tile after tile."""

    def __init__(self, like: Tensor, size: int) -> None:
        self.top, self.total = like.new_full((size,), -torch.inf), like.new_zeros(size)

    def fold(self, where: slice, scores: Tensor, dim: int) -> None:
        top = torch.maximum(self.top[where], scores.amax(dim))
        shift = top.clamp(min=_LOWEST)
        sums = (scores - shift.unsqueeze(dim)).exp_().sum(dim)
        self.total[where] = self.total[where] * (self.top[where] - shift).exp() + sums
        self.top[where] = top


class _Told(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, everyone: Everyone, tile: int, patch_NPD: Tensor, word_NLD: Tensor, mask_NL: Tensor, log_scale: Tensor
    ) -> tuple[Tensor, ...]:
        N, scale = len(patch_NPD), log_scale.exp()
        word_GLD, mask_GL = everyone.gathered(word_NLD), everyone.gathered(mask_NL > 0).to(mask_NL.dtype)
        share_GL = mask_GL / mask_GL.sum(1, keepdim=True)
        rows, columns = _Running(patch_NPD, N), _Running(patch_NPD, everyone.pairs)
        own_image_N, own_text_N = patch_NPD.new_zeros(N), patch_NPD.new_zeros(N)
        for r, c in tiles(N, everyone.pairs, tile):
            best = _best(patch_NPD[r], word_GLD[c], mask_GL[c], share_GL[c])
            i2t_RC, t2i_RC = best.i2t_RC * scale, best.t2i_RC * scale
            at_R, at_C = _own(everyone, r, c)
            own_image_N[r.start + at_R], own_text_N[r.start + at_R] = i2t_RC[at_R, at_C], t2i_RC[at_R, at_C]
            rows.fold(r, _hidden(i2t_RC, everyone, r, c), 1)
            columns.fold(c, _hidden(t2i_RC, everyone, r, c), 0)
        top_G = everyone.peers.all_max(columns.top)
        total_G = everyone.peers.all_sum(columns.total * (columns.top - top_G.clamp(min=_LOWEST)).exp())
        image_N, text_G = rows.top + rows.total.log(), top_G + total_G.log()
        ctx.everyone, ctx.tile = everyone, tile
        ctx.save_for_backward(patch_NPD, word_GLD, mask_GL, share_GL, scale, image_N, text_G)
        tops = rows.top, top_G[everyone.own]
        ctx.mark_non_differentiable(*tops)
        return image_N, own_image_N, tops[0], text_G[everyone.own], own_text_N, tops[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        patch_NPD, word_GLD, mask_GL, share_GL, scale, image_N, text_G = ctx.saved_tensors
        everyone, (d_image_N, d_own_image_N, _, d_text_N, d_own_text_N, _) = ctx.everyone, grads
        d_text_G = everyone.gathered(d_text_N)
        image_N, text_G = image_N.clamp(min=_LOWEST), text_G.clamp(min=_LOWEST)
        d_patch_NPD, d_word_GLD, d_log_scale = torch.zeros_like(patch_NPD), torch.zeros_like(word_GLD), scale * 0
        for r, c in tiles(len(patch_NPD), everyone.pairs, ctx.tile):
            best = _best(patch_NPD[r], word_GLD[c], mask_GL[c], share_GL[c])
            i2t_RC, t2i_RC = best.i2t_RC * scale, best.t2i_RC * scale
            d_i2t_RC = (_hidden(i2t_RC, everyone, r, c) - image_N[r, None]).exp_().mul_(d_image_N[r, None])
            d_t2i_RC = (_hidden(t2i_RC, everyone, r, c) - text_G[c]).exp_().mul_(d_text_G[c])
            at_R, at_C = _own(everyone, r, c)
            d_i2t_RC[at_R, at_C] += d_own_image_N[r.start + at_R]
            d_t2i_RC[at_R, at_C] += d_own_text_N[r.start + at_R]
            d_log_scale += (d_i2t_RC * i2t_RC + d_t2i_RC * t2i_RC).sum()
            d_products = _spread(best, d_i2t_RC * scale, d_t2i_RC * scale, share_GL[c]).flatten(2).flatten(0, 1)
            d_patch_NPD[r] += (d_products @ word_GLD[c].flatten(0, 1)).view_as(d_patch_NPD[r])
            d_word_GLD[c] += (d_products.T @ patch_NPD[r].flatten(0, 1)).view_as(d_word_GLD[c])
        d_word_NLD = everyone.peers.scatter_sum_rows(d_word_GLD, everyone.counts)
        return None, None, d_patch_NPD, d_word_NLD, None, d_log_scale


def _spread(best: _Best, d_i2t_RC: Tensor, d_t2i_RC: Tensor, share_CL: Tensor) -> Tensor:
    """Gradients by a tile's products, in their memory: each similarity's went through its nearest words and patches."""
    d_RPCL = best.products_RPCL.zero_()
    each_RPC = (d_i2t_RC / d_RPCL.shape[1])[:, None].expand_as(best.word_RPC)
    d_RPCL.scatter_(3, best.word_RPC[..., None], each_RPC[..., None])
    return d_RPCL.scatter_add_(1, best.patch_RCL[:, None], (d_t2i_RC[..., None] * share_CL)[:, None])


def _own(everyone: Everyone, r: slice, c: slice) -> tuple[Tensor, Tensor]:
    """Where in a tile this rank's images meet their own texts."""
    start = everyone.own.start
    first, last = max(start + r.start, c.start), min(start + r.stop, c.stop)
    position = torch.arange(first, max(first, last), device=everyone.ids_N.device)
    return position - start - r.start, position - c.start


def _hidden(scores_RC: Tensor, everyone: Everyone, r: slice, c: slice) -> Tensor:
    """-inf where an image meets a text of its own pair, or of the same pair met again."""
    return scores_RC.masked_fill(everyone.ids_N[r, None] == everyone.every_ids_G[None, c], -torch.inf)
