"""The SigLIP loss (Zhai et al., 2023) and its gradient: every pair of an image and a text is a question by itself.

The loss of score S (bias included) is softplus(S), and softplus(-S) where the row owns the text. Summed over all pairs
and divided by the number of rows, as in the paper; with weights, half of the mean over rows of a row's sum and half of
the mean over columns of a column's, which is the same where all weights are 1. So one sweep does it: the derivative of
a score needs no sum over the others.
"""

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Placed
from training.terms.cores.interface import CoreOutput, Problem
from training.terms.cores.layout import common, length
from training.terms.cores.positives import Side, own_scores, softplus
from training.terms.cores.scores import FLOOR
from training.terms.cores.step import Step, solved


def sigmoid(
    problem: Problem,
    targets: None,
    peers: Peers,
    *,
    exchange: str = "gather",
    tile: int | tuple[int, int] = 512,
    wire: str = "fp32",
) -> CoreOutput:
    """Collective. As `softmax`, with the bias added to every score. All texts that a row owns are its positives."""
    return solved(_Sigmoid, problem, targets, peers, exchange, tile, wire, False)


class _Sigmoid(Step):
    def solved(self) -> CoreOutput:
        N, D = self.images.shape
        bias = self.problem.bias
        shift = torch.zeros_like(self.scale) if bias is None else bias.detach().to(self.images.dtype).reshape(())
        span, own = self.way.row_span, self.layout.own.rows
        d_row = Placed(self.images.new_zeros((length(span), D)), span.start)
        row_loss, row_sum = (Placed(self.images.new_zeros(length(span)), span.start) for _ in range(2))
        row_top = Placed(torch.full_like(row_loss.tensor, FLOOR), span.start)
        half_R, half_M = self._halves()
        read = {"text": self.texts} if half_M is None else {"text": self.texts, "half": half_M}
        carry = {"d_text": (0.0, (D,)), "loss": (0.0, ()), "top": (FLOOR, ())}
        zero, sweep = torch.zeros_like(self.scale), self.way.sweep(read, carry)
        for tile in sweep:
            scores_RC = self.scores.of(tile, tile.read["text"]).add_(shift)
            loss_RC = torch.logaddexp(scores_RC, zero, out=self.scores.spare(scores_RC))
            if tile.for_rows:
                row_loss[tile.rows].add_(loss_RC.sum(1))
                _take_larger(row_top[tile.rows], scores_RC.amax(1))
            if tile.for_columns:
                tile.carry["loss"].add_(loss_RC.sum(0))
                _take_larger(tile.carry["top"], scores_RC.amax(0))
            d_RC = scores_RC.sigmoid_()
            if half_R is not None:
                d_RC.mul_(torch.add(half_R[tile.rows][:, None], tile.read["half"], out=self.scores.spare(d_RC)))
            graded = common(tile.rows, self.way.graded)
            if tile.for_rows:
                row_sum[tile.rows].add_(d_RC.sum(1))
                d_row[graded].addmm_(d_RC[: length(graded)], tile.read["text"])
            if tile.for_columns:
                tile.carry["d_text"].addmm_(d_RC.T, self.scores.row_RD[tile.rows])
        ends, mine = self.ends, slice(own.start, own.start + N)
        own_M = own_scores(ends.image_ND, ends.text_MD, ends.owner_M, ends.first_N, self.scale) + shift
        rows, columns = self._sides(
            own_M,
            (ends.rows(row_loss[mine]), ends.rows(row_top[mine])),
            (ends.columns(sweep.home("loss")), ends.columns(sweep.home_max("top"))),
        )
        value, metrics = self.values(rows, columns)
        d_own_M = (self.weights.rows_of(rows.d_own_M) + self.weights.columns_of(columns.d_own_M)) / 2
        d_own_M = torch.where(ends.owner_M < 0, 0, d_own_M)
        d_image, own_d_M = d_row[mine], ends.own_columns(d_own_M)
        d_text = sweep.home("d_text", lambda d_MD: self.add_own(d_image, d_MD, own_d_M))
        factor = self.scale / self.layout.pairs
        d_image, d_text = d_image.mul_(factor), d_text.mul_(factor)
        d_bias = None
        if bias is not None:
            total = ends.total_of_own(row_sum[own], self.layout.row_counts) + ends.total(d_own_M)
            d_bias = (total / self.layout.pairs).to(bias.dtype).reshape(bias.shape)
        return CoreOutput(value, d_image, d_text, self.d_log_scale(d_image, d_text), d_bias, metrics)

    def _halves(self) -> tuple[Placed | None, Tensor | None]:
        """Of rows and of columns: the weight of a pair is their sum. None: it is 1."""
        u_N, v_M = self.weights.row_N, self.weights.column_M
        if u_N is None and v_M is None and self.layout.rows == self.layout.pairs:
            return None, None
        u_N = torch.ones_like(self.ends.image_ND[:, 0]) if u_N is None else u_N
        v_M = torch.ones_like(self.ends.text_MD[:, 0]) if v_M is None else v_M
        return self.ends.placed(u_N / 2, 0.0), self.ends.read("half", v_M / 2)

    def _sides(self, own_M: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> tuple[Side, Side]:
        """Of (sums of losses, maxima) over rivals."""
        (row_loss_N, row_top_N), (column_loss_M, column_top_M), N = rows, columns, len(rows[0])
        owned_M, row_M = self.ends.owner_M >= 0, self.ends.owner_M.clamp(min=0)
        loss_M = torch.where(owned_M, softplus(-own_M), 0)
        d_own_M = -torch.sigmoid(-own_M)
        best_N = own_M[:N]
        if len(own_M) == N:
            row_loss_N = row_loss_N + loss_M
        elif N:
            row_loss_N = row_loss_N.index_add(0, row_M, loss_M)
            best_N = torch.full_like(row_loss_N, -torch.inf)
            best_N = best_N.scatter_reduce(0, row_M, torch.where(owned_M, own_M, -torch.inf), "amax")
        of_rows = Side(row_loss_N, row_loss_N, d_own_M, best_N > row_top_N)
        return of_rows, Side(column_loss_M + loss_M, column_loss_M, d_own_M, own_M > column_top_M)


def _take_larger(top: Tensor, other: Tensor) -> None:
    torch.maximum(top, other, out=top)
