"""The pairs themselves, apart from the sweeps: what a row's own texts add to its loss, once its rivals are summed.

With r the log-sum-exp of a row's rivals and o the score of its own text, the cross-entropy is softplus(r - o). Rivals
are summed apart because log-sum-exp minus o loses every digit once a pair is learnt, and softplus does not. The
gradient of a rival's score is exp(S - shift): rows differ in `shift` alone, which also takes in their weight.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

Positives = Literal["first", "all", "each"]


@dataclass(frozen=True)
class Side:
    """Of rows, or of columns."""

    loss: Tensor
    shift: Tensor  # the derivative of a loss by a rival's score S is exp(S - shift)
    d_own_M: Tensor  # the derivative of the loss of a text's row, or of the text itself, by their score
    hit: Tensor  # bool: own score above all rivals; a tie is a miss
    own: Tensor  # own score, margin taken off: the mean over a row's own texts
    share_M: Tensor | None = None  # what of its row's own texts a text is; None: its first text is all

    def shared(self, spread: Tensor, first: slice | Tensor, owner_M: Tensor | None) -> "Side":
        """With some of the target off the pairs: `spread` is (share, share times score) summed over rivals.

        What a target lacks to 1 is the pair's own, so each share of a rival counts with its score less the own one.
        """
        share, product = spread.unbind(1)
        loss = self.loss + (share * self.own - product)
        if owner_M is None:
            d_own_M = self.d_own_M + share
        elif self.share_M is None:
            d_own_M = self.d_own_M.clone()
            d_own_M[first] += share
        else:
            d_own_M = self.d_own_M + self.share_M * share[owner_M.clamp(min=0)]
        return replace(self, loss=loss, d_own_M=d_own_M)


def softplus(value: Tensor) -> Tensor:
    return torch.logaddexp(value, torch.zeros_like(value))


def own_scores(row_ND: Tensor, text_MD: Tensor, owner_M: Tensor, first: slice | Tensor, scale: Tensor) -> Tensor:
    """Score of each text with the row that owns it; of nobody's, with any row. A block at a time: no copy of all."""
    out_M = row_ND.new_empty(len(text_MD))
    if not len(row_ND):
        return out_M.zero_()
    N, step = len(row_ND) if isinstance(first, slice) else 0, 4096
    for start in range(0, len(text_MD), step):
        stop = min(start + step, len(text_MD))
        rows_D = row_ND[start:stop] if stop <= N else row_ND[owner_M[start:stop].clamp(min=0)]
        out_M[start:stop] = ((rows_D * scale) * text_MD[start:stop]).sum(1)
    return out_M


def of_columns(rival_lse_M: Tensor, rival_top_M: Tensor, own_M: Tensor, margin: Tensor | float) -> Side:
    """Text to image: every owned text has one image. `margin` is taken off own scores (or is what rivals are given)."""
    score_M = own_M - margin
    less_M = softplus(rival_lse_M - score_M)
    d_own_M = -torch.sigmoid(rival_lse_M - score_M)
    return Side(less_M, _above(rival_lse_M, score_M + less_M), d_own_M, own_M > rival_top_M, score_M)


def of_rows(
    rival_lse_N: Tensor,
    rival_top_N: Tensor,
    own_M: Tensor,
    owner_M: Tensor,
    first: slice | Tensor,
    margin: float,
    positives: Positives,
) -> Side:
    """Image to text. `first`: its first text is the answer and its others do not count. `all`: each of its K texts has
    1/K of the target. `each`: the mean over its texts of what each would have alone among the rivals."""
    N = len(rival_lse_N)
    if positives == "first" or len(own_M) == N:
        side = of_columns(rival_lse_N, rival_top_N, own_M[first], margin)
        if len(own_M) == N:
            return side
        d_own_M = torch.zeros_like(own_M)
        d_own_M[first] = side.d_own_M
        return replace(side, d_own_M=d_own_M)
    owned_M = owner_M >= 0
    row_M = owner_M.clamp(min=0)
    score_M = torch.where(owned_M, own_M - margin, -torch.inf)
    count_N = own_M.new_zeros(N).index_add_(0, row_M, owned_M.to(own_M.dtype))
    share_M = owned_M / count_N[row_M]
    best_N = score_M.new_full((N,), -torch.inf).scatter_reduce_(0, row_M, score_M, "amax")
    finite_M = torch.where(owned_M, score_M, 0)
    mean_N = own_M.new_zeros(N).index_add_(0, row_M, share_M * finite_M)
    if positives == "all":
        lse_N = _grouped_lse(score_M, row_M, best_N)
        part_M = (score_M - lse_N[row_M]).exp_()
        less_N = softplus(rival_lse_N - lse_N)
        d_own_M = (part_M - share_M) - torch.sigmoid(rival_lse_N - lse_N)[row_M] * part_M
        loss_N, shift_N = less_N + (lse_N - mean_N), lse_N + less_N
    else:
        less_M = softplus(rival_lse_N[row_M] - finite_M)
        loss_N = own_M.new_zeros(N).index_add_(0, row_M, share_M * less_M)
        d_own_M = -torch.sigmoid(rival_lse_N[row_M] - finite_M) * share_M
        whole_M = torch.where(owned_M, -(finite_M + less_M), -torch.inf)
        least_N = score_M.new_full((N,), -torch.inf).scatter_reduce_(0, row_M, whole_M, "amax")
        shift_N = count_N.log() - _grouped_lse(whole_M, row_M, least_N)
    return Side(loss_N, _above(rival_lse_N, shift_N), d_own_M, best_N + margin > rival_top_N, mean_N, share_M)


def _above(rival_lse: Tensor, shift: Tensor) -> Tensor:
    """A shift is above its rivals' log-sum-exp, or else exp(S - shift) is no probability: scores of 1e8 and more leave
    no digit for what is added to them."""
    return torch.where(rival_lse - shift > 1e-3, rival_lse, shift)


def _grouped_lse(value_M: Tensor, group_M: Tensor, top_N: Tensor) -> Tensor:
    less_M = (value_M - top_N[group_M]).exp_()
    return top_N + torch.zeros_like(top_N).index_add_(0, group_M, less_M).log_()
