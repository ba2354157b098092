"""The CLIP loss (Radford et al., 2021) and its gradient, without ever holding the B x B matrix of scores.

One sweep over tiles sums the exponentials of rows and of columns, rivals only; a second one makes the scores anew and
turns them into dS, the gradient by the scores: images' and texts' gradients are two more products. The running maximum
cannot be replaced by the bound of S, exp(log_scale): at 100 every term of an untrained row would underflow.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Placed
from training.terms.cores.interface import CoreOutput, Problem
from training.terms.cores.layout import common, length
from training.terms.cores.positives import Side, of_columns, of_rows, own_scores
from training.terms.cores.scores import FLOOR, Running, fold_both, middle_of, probabilities
from training.terms.cores.step import Step, solved


def softmax(
    problem: Problem,
    targets: None,
    peers: Peers,
    *,
    exchange: str = "gather",
    tile: int | tuple[int, int] = 512,
    wire: str = "fp32",
    fused: bool = True,
) -> CoreOutput:
    """Collective. A bias shifts every score alike, so its gradient here is exactly zero.

    `tile`: side of the largest block of scores ever held, or its rows and columns. `wire="bf16"`: where features travel
    (more than one rank) loss and gradients are those of texts rounded to bfloat16 (`gather2`: of images, too), a
    relative error of at most 2^-9 a number. `fused=False` spends an exponential each for rows and columns everywhere,
    as it is done on a GPU.
    """
    return solved(_Softmax, problem, targets, peers, exchange, tile, wire, fused)


@dataclass(frozen=True)
class _Rivals:
    """Of each row (or column): log-sum-exp and maximum of its scores, its own pairs left out."""

    lse: Tensor
    top: Tensor


class _Softmax(Step):
    def solved(self) -> CoreOutput:
        ends = self.ends
        row_rivals, column_rivals = self._rivals()
        own_M = own_scores(ends.image_ND, ends.text_MD, ends.owner_M, ends.first_N, self.scale)
        rows = of_rows(row_rivals.lse, row_rivals.top, own_M, ends.owner_M, ends.first_N, 0.0, "first")
        columns = of_columns(column_rivals.lse, column_rivals.top, own_M, 0.0)
        value, metrics = self.values(rows, columns)
        d_image, d_text = self._gradients(rows, columns)
        d_bias = None if self.problem.bias is None else torch.zeros_like(self.problem.bias)
        return CoreOutput(value, d_image, d_text, self.d_log_scale(d_image, d_text), d_bias, metrics)

    def _rivals(self) -> tuple[_Rivals, _Rivals]:
        """First sweep: of pairs and of columns."""
        span = self.way.row_span
        row_top = Placed(self.texts.new_full((length(span),), FLOOR), span.start)
        row_total = Placed(torch.zeros_like(row_top.tensor), span.start)
        sweep = self.way.sweep({"text": self.texts}, {"top": (FLOOR, ()), "total": (0.0, ())})
        for tile in sweep:
            scores_RC = self.scores.of(tile, tile.read["text"])
            rows = Running(row_top[tile.rows], row_total[tile.rows]) if tile.for_rows else None
            columns = Running(tile.carry["top"], tile.carry["total"]) if tile.for_columns else None
            fold_both(rows, columns, self.scores, scores_RC, self.fused)
        row = [self.ends.rows(part[self.layout.own.rows][: len(self.images)]) for part in (row_top, row_total)]
        column = [self.ends.columns(part) for part in sweep.home_lse()]
        return _Rivals(row[0] + row[1].log(), row[0]), _Rivals(column[0] + column[1].log(), column[0])

    def _gradients(self, rows: Side, columns: Side) -> tuple[Tensor, Tensor]:
        """Second sweep: gradients by this rank's images and texts, queue left out."""
        N, D = self.images.shape
        span, own = self.way.row_span, self.layout.own.rows
        u_N, v_M = self.weights.row_N, self.weights.column_M
        row_shift_R = self.ends.placed(rows.shift if u_N is None else rows.shift - u_N.log(), torch.inf)
        column_shift = self.ends.read("shift", columns.shift if v_M is None else columns.shift - v_M.log())
        d_row = Placed(self.images.new_zeros((length(span), D)), span.start)
        sweep = self.way.sweep({"text": self.texts, "shift": column_shift}, {"d_text": (0.0, (D,))})
        middle: dict[int, float | None] = {}
        for tile in sweep:
            text_CD, shift_C, number = tile.read["text"], tile.read["shift"], tile.block.number
            scores_RC = self.scores.of(tile, text_CD)
            if self.fused and number not in middle:
                middle[number] = middle_of(row_shift_R.tensor, tile.block.read["shift"])
            d_scores_RC = probabilities(self.scores, scores_RC, row_shift_R[tile.rows], shift_C, middle.get(number))
            graded = common(tile.rows, self.way.graded)
            if tile.for_rows and length(graded):
                d_row[graded].addmm_(d_scores_RC[: length(graded)], text_CD)
            if tile.for_columns:
                tile.carry["d_text"].addmm_(d_scores_RC.T, self.scores.row_RD[tile.rows])
        own_M = self.weights.rows_of(rows.d_own_M) + self.weights.columns_of(columns.d_own_M)
        own_M, d_image = self.ends.own_columns(own_M), d_row[own][:N]
        d_text = sweep.home("d_text", lambda d_MD: self.add_own(d_image, d_MD, own_M))
        factor = 0.5 / self.layout.pairs * self.scale
        return d_image.mul_(factor), d_text.mul_(factor)
