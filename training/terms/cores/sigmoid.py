"""The SigLIP loss (Zhai et al., 2023) and its gradient: every pair of an image and a text is a question by itself.

The loss of score S (bias included) is softplus(S), and softplus(-S) where the row owns the text. Summed over all pairs
and divided by the number of rows, as in the paper; with weights, half of the mean over rows of a row's sum and half of
the mean over columns of a column's, which is the same where all weights are 1. So one sweep does it: the derivative of
a score needs no sum over the others.
"""

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Carry, Placed, Sweep
from training.terms.cores.interface import CoreOutput, Problem
from training.terms.cores.positives import Side, softplus
from training.terms.cores.problem.layout import common, length
from training.terms.cores.scores.running import FLOOR
from training.terms.cores.scores.work import Asked
from training.terms.cores.solution import Solution, solve
from training.terms.cores.step import How
from training.terms.cores.targets import Targets


def sigmoid(
    problem: Problem,
    targets: Targets | None,
    peers: Peers,
    *,
    exchange: str = "gather",
    tile: int | tuple[int, int] = 512,
    wire: str = "fp32",
    kernel: str = "torch",
) -> CoreOutput:
    """Collective. As `softmax`, with the bias added to every score. All texts that a row owns are its positives."""
    sides = (tile, tile) if isinstance(tile, int) else tile
    return solve(_Sigmoid, problem, targets, peers, exchange, wire, How("sigmoid", sides, False, kernel))


class _Sigmoid(Solution):
    def solved(self) -> CoreOutput:
        N, bias, targets, ends = len(self.images), self.problem.bias, self.targets, self.ends
        shift = torch.zeros_like(self.scale) if bias is None else bias.detach().to(self.images.dtype).reshape(())
        mine = slice(self.layout.own.rows.start, self.layout.own.rows.start + N)
        d_row, row_sums, row_top, sweep = self._swept(shift, 0.0 if targets is None else targets.negative_margin)
        own_M = self.own_scores() + shift
        rows, columns = self._sides(
            own_M,
            (ends.rows(row_sums[mine][:, 0]), ends.rows(row_top[mine])),
            (ends.columns(sweep.home("loss")), ends.columns(sweep.home_max("top"))),
        )
        if self.spreading.there:
            rows, columns = self.spreading.taken(rows, columns, sweep.home("spread"))
        value, metrics = self.values(rows, columns)
        d_own_M = (self.weights.rows_of(rows.d_own_M) + self.weights.columns_of(columns.d_own_M)) / 2
        d_own_M = torch.where(ends.owner_M < 0, 0, d_own_M)
        d_image, own_d_M = d_row[mine], ends.own_columns(d_own_M)
        d_text = sweep.home("d_text", lambda d_MD: self.add_own(d_image, d_MD, own_d_M))
        factor = self.scale / self.layout.pairs
        d_image, d_text = d_image.mul_(factor), d_text.mul_(factor)
        d_bias = None
        if bias is not None:
            d_sum_R = row_sums[self.layout.own.rows][:, 1]
            total = ends.total_of_own(d_sum_R, self.layout.row_counts) + ends.total(d_own_M)
            d_bias = (total / self.layout.pairs).to(bias.dtype).reshape(bias.shape)
        return CoreOutput(value, d_image, d_text, self.d_log_scale(d_image, d_text), d_bias, metrics)

    def _swept(self, shift: Tensor, margin: float) -> tuple[Placed, Placed, Placed, Sweep]:
        """Of rows: gradients, (loss, sum of dS) over rivals, maxima; the sweep has those of columns."""
        D, span, spreading = self.images.shape[1], self.way.row_span, self.spreading
        d_row = Placed(self.images.new_zeros((length(span), D)), span.start)
        row_sums = Placed(self.images.new_zeros((length(span), 2)), span.start)
        row_top = Placed(self.images.new_full((length(span),), FLOOR), span.start)
        half_R, half_M = self._halves()
        read = {"text": self.texts, **({} if half_M is None else {"half": half_M}), **spreading.read}
        carry: Carry = {"d_text": (0.0, (D,)), "loss": (0.0, ()), "top": (FLOOR, ())}
        if spreading.there:
            carry["spread"] = 0.0, (2,)
        sweep = self.way.sweep(read, carry)
        for tile in sweep:
            text_CD = tile.read["text"]
            scores_RC = self.scores.of(tile, text_CD, hidden=False).add_(shift + margin)
            spread_RC = spreading.add(tile, scores_RC) if spreading.there else None
            self.layout.hide(scores_RC, tile.rows, tile.columns)
            sums_R, carry_C = row_sums[tile.rows], tile.carry
            d_RC = self.work.questions(
                scores_RC,
                Asked(sums_R[:, 0], row_top[tile.rows], sums_R[:, 1]) if tile.for_rows else None,
                Asked(carry_C["loss"], carry_C["top"]) if tile.for_columns else None,
                None if half_R is None else (half_R[tile.rows], tile.read["half"]),
                spread_RC,
            )
            graded = common(tile.rows, self.way.graded)
            if tile.for_rows:
                d_row[graded].addmm_(d_RC[: length(graded)], text_CD)
            if tile.for_columns:
                tile.carry["d_text"].addmm_(d_RC.T, self.scores.row_RD[tile.rows])
        return d_row, row_sums, Placed(row_top.tensor - margin, span.start), sweep

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
        targets = self.targets
        margin, smoothing = (0.0, 0.0) if targets is None else (targets.positive_margin, targets.smoothing)
        owned_M, row_M = self.ends.owner_M >= 0, self.ends.owner_M.clamp(min=0)
        score_M = own_M - margin
        loss_M = torch.where(owned_M, softplus(-score_M) + smoothing / 2 * score_M, 0)
        d_own_M = -torch.sigmoid(-score_M) + smoothing / 2
        best_N = own_M[:N]
        if len(own_M) == N:
            row_loss_N = row_loss_N + loss_M
        elif N:
            row_loss_N = row_loss_N.index_add(0, row_M, loss_M)
            best_N = torch.full_like(row_loss_N, -torch.inf)
            best_N = best_N.scatter_reduce(0, row_M, torch.where(owned_M, own_M, -torch.inf), "amax")
        column_loss_M, margin_top = column_loss_M + loss_M, 0.0 if targets is None else targets.negative_margin
        return (
            Side(row_loss_N, row_loss_N, d_own_M, best_N > row_top_N, row_loss_N),
            Side(column_loss_M, column_loss_M, d_own_M, own_M > column_top_M - margin_top, column_loss_M),
        )
