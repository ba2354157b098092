"""The CLIP loss (Radford et al., 2021) and its gradient, without ever holding the B x B matrix of scores.

Letters: N rows on this rank, V valid rows on this rank, G valid rows on all ranks, D features, R and C rows and columns
of one tile. `own` rows are images of this rank, columns are texts of all ranks.

The score of image i and text j is S_ij = s x_i . y_j, and with a_i = log sum_{j != i} exp(S_ij - S_ii), over a row,
and b_i the same over a column, the loss is mean(softplus(a_i) + softplus(b_i)) / 2. Rivals are summed apart from the
pair's own score because log-sum-exp minus S_ii loses every digit once a pair is learnt, and softplus does not.

Each rank holds its own images against all texts, so one sweep over tiles serves both directions: rows are complete,
columns are merged over ranks by a maximum and a sum of G numbers. A second sweep recomputes each tile and turns it into
the gradient dS; images' gradients stay, texts' are summed over ranks and scattered. Traffic: one gather of the texts,
one reduce-scatter of as much, 3 G numbers. The running maximum cannot be replaced by the bound s: at s = 100 every term
of an untrained row would underflow.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import DataError
from training.ranks.peers import Peers
from training.rows import Rows
from training.terms.term import TermOutput

_FLOOR = -1e30  # the maximum of nothing; finite, so that a row without rivals subtracts it without making a NaN


def softmax_loss(
    image_ND: Tensor,
    text_ND: Tensor,
    log_scale: Tensor,
    valid_N: Tensor,
    peers: Peers,
    *,
    tile: int,
    smoothing: float,
) -> TermOutput:
    """See `training.terms.term.StepTerm`. DataError when no rank holds a valid pair.

    Metrics: loss and top-1 accuracy of each direction among the step's valid pairs (a tie is a miss), and their number.
    """
    with torch.no_grad(), torch.autocast(image_ND.device.type, enabled=False):
        problem = _gathered(image_ND[valid_N], text_ND[valid_N], log_scale, peers, tile)
        rows, columns = _rivals(problem, peers)
        loss, metrics = _values(problem, rows, columns, smoothing, peers)
        d_own_VD, d_text_VD = _gradients(problem, rows, columns, smoothing, peers)
        # S is linear in s, so sum(dS * S) = sum(x . dx): D products a row instead of G.
        d_scale = peers.all_sum((problem.own_VD.double() * d_own_VD.double()).sum().reshape(1))
    grads = {"image": _placed(d_own_VD, valid_N), "text": _placed(d_text_VD, valid_N)}
    return TermOutput(loss, grads, {"log_scale": d_scale.to(d_own_VD.dtype)}, metrics)


@dataclass(frozen=True)
class _Problem:
    own_VD: Tensor
    texts_GD: Tensor
    counts: list[int]  # valid rows of each rank
    first: int  # the column of this rank's first pair
    scale: Tensor
    own_score_V: Tensor  # S_ii
    tile: int

    @property
    def pairs(self) -> int:
        return len(self.texts_GD)

    def tiles(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Every (rows, columns, scores_RC), with -inf where a row meets its own column."""
        for top in range(0, len(self.own_VD), self.tile):
            rows = slice(top, min(top + self.tile, len(self.own_VD)))
            scaled_RD = self.own_VD[rows] * self.scale
            for left in range(0, self.pairs, self.tile):
                columns = slice(left, min(left + self.tile, self.pairs))
                scores_RC = scaled_RD @ self.texts_GD[columns].T
                diagonal = scores_RC.diagonal(self.first + top - left) if self._crosses(rows, columns) else None
                if diagonal is not None:
                    diagonal.fill_(-torch.inf)
                yield rows, columns, scores_RC

    def _crosses(self, rows: slice, columns: slice) -> bool:
        return self.first + rows.start < columns.stop and columns.start < self.first + rows.stop


@dataclass(frozen=True)
class _Rivals:
    """Of each row (or column): log-sum-exp and maximum of its scores, its own pair left out."""

    lse: Tensor
    top: Tensor


def _gathered(own_VD: Tensor, text_VD: Tensor, log_scale: Tensor, peers: Peers, tile: int) -> _Problem:
    dtype = torch.promote_types(own_VD.dtype, torch.float32)
    own_VD, text_VD = own_VD.to(dtype), text_VD.to(dtype)
    texts_GD, counts = peers.gather_rows(text_VD)
    if len(texts_GD) == 0:
        raise DataError(
            "softmax loss", "no valid pair in the whole step", "at least one", "look at the reader's reasons"
        )
    scale = log_scale.detach().to(dtype).exp().reshape(())
    own_score_V = ((own_VD * scale) * text_VD).sum(1)
    return _Problem(own_VD, texts_GD, counts, sum(counts[: peers.rank]), scale, own_score_V, tile)


def _rivals(problem: _Problem, peers: Peers) -> tuple[_Rivals, _Rivals]:
    """First sweep, rows of this rank and columns of the world."""
    row_top = torch.full_like(problem.own_score_V, _FLOOR)
    row_sum = torch.zeros_like(row_top)
    column_top = torch.full_like(problem.texts_GD[:, 0], _FLOOR)
    column_sum = torch.zeros_like(column_top)
    for rows, columns, scores_RC in problem.tiles():
        _fold(row_top[rows], row_sum[rows], scores_RC, dim=1)
        _fold(column_top[columns], column_sum[columns], scores_RC, dim=0)
    world_top = peers.all_max(column_top)
    world_sum = peers.all_sum(column_sum * (column_top - world_top).exp())
    return _Rivals(row_top + row_sum.log(), row_top), _Rivals(world_top + world_sum.log(), world_top)


def _fold(top: Tensor, total: Tensor, scores_RC: Tensor, dim: int) -> None:
    """Takes one more tile into the running maximum and sum of exponentials, in place."""
    new_top = torch.maximum(top, scores_RC.amax(dim))
    total.mul_((top - new_top).exp_()).add_((scores_RC - new_top.unsqueeze(dim)).exp_().sum(dim))
    top.copy_(new_top)


def _values(problem: _Problem, rows: _Rivals, columns: _Rivals, smoothing: float, peers: Peers) -> tuple[Tensor, Rows]:
    own = slice(problem.first, problem.first + len(problem.own_VD))
    score_V = problem.own_score_V
    i2t_V = _softplus(rows.lse - score_V)
    t2i_V = _softplus(columns.lse[own] - score_V)
    if smoothing:
        mean_text_D, mean_image_D = _means(problem, peers)
        own_text_VD = problem.texts_GD[own]
        i2t_V = i2t_V + smoothing * (score_V - problem.scale * problem.own_VD @ mean_text_D)
        t2i_V = t2i_V + smoothing * (score_V - problem.scale * own_text_VD @ mean_image_D)
    hits = [score_V > rows.top, score_V > columns.top[own]]
    sums = torch.stack([part.double().sum() for part in (i2t_V, t2i_V, *hits)])
    i2t, t2i, i2t_hits, t2i_hits = (peers.all_sum(sums) / problem.pairs).unbind()
    metrics = {"loss_i2t": i2t, "loss_t2i": t2i, "acc_i2t": i2t_hits, "acc_t2i": t2i_hits}
    return (i2t + t2i) / 2, metrics | {"pairs": torch.full_like(i2t, problem.pairs)}


def _gradients(
    problem: _Problem, rows: _Rivals, columns: _Rivals, smoothing: float, peers: Peers
) -> tuple[Tensor, Tensor]:
    """Second sweep: gradients of the loss with respect to this rank's images and texts."""
    own = slice(problem.first, problem.first + len(problem.own_VD))
    score_V, weight = problem.own_score_V, 0.5 / problem.pairs
    row_lse = score_V + _softplus(rows.lse - score_V)
    # A column's own score lives on the rank of its pair; every rank needs the column's whole log-sum-exp.
    own_score_G, _ = peers.gather_rows(score_V)
    column_lse = own_score_G + _softplus(columns.lse - own_score_G)

    d_own_VD = torch.zeros_like(problem.own_VD)
    d_texts_GD = torch.zeros_like(problem.texts_GD)
    for r, c, scores_RC in problem.tiles():
        d_scores_RC = (scores_RC - row_lse[r, None]).exp_()
        d_scores_RC += scores_RC.sub_(column_lse[None, c]).exp_()
        d_own_VD[r].addmm_(d_scores_RC, problem.texts_GD[c])
        d_texts_GD[c].addmm_(d_scores_RC.T, problem.own_VD[r])

    # The diagonal, (p_ii - 1) both ways, as a sigmoid of the rivals: exact even where p_ii rounds to 1.
    own_weight_V = -torch.sigmoid(rows.lse - score_V) - torch.sigmoid(columns.lse[own] - score_V) + 2 * smoothing
    d_own_VD.addcmul_(own_weight_V[:, None], problem.texts_GD[own])
    d_texts_GD[own].addcmul_(own_weight_V[:, None], problem.own_VD)
    if smoothing:
        mean_text_D, mean_image_D = _means(problem, peers)
        d_own_VD -= 2 * smoothing * mean_text_D
        d_texts_GD[own] -= 2 * smoothing * mean_image_D
    d_text_VD = peers.scatter_sum_rows(d_texts_GD, problem.counts)
    return d_own_VD.mul_(weight * problem.scale), d_text_VD * (weight * problem.scale)


def _means(problem: _Problem, peers: Peers) -> tuple[Tensor, Tensor]:
    """Mean text and mean image of the step: all that label smoothing adds, since S is linear in either."""
    image_sum_D = peers.all_sum(problem.own_VD.sum(0))
    return problem.texts_GD.mean(0), image_sum_D / problem.pairs


def _softplus(value: Tensor) -> Tensor:
    return torch.logaddexp(value, torch.zeros_like(value))


def _placed(rows_VD: Tensor, valid_N: Tensor) -> Tensor:
    """Gradients of the valid rows among zero rows for the others."""
    if len(rows_VD) == len(valid_N):
        return rows_VD
    out_ND = rows_VD.new_zeros((len(valid_N), rows_VD.shape[1]))
    out_ND[valid_N] = rows_VD
    return out_ND
