"""The CLIP loss (Radford et al., 2021) and its gradient, without ever holding the B x B matrix of scores.

One sweep over tiles sums the exponentials of rows and of columns, rivals only; a second one makes the scores anew and
turns them into dS, the gradient by the scores: images' and texts' gradients are two more products. The running maximum
cannot be replaced by the bound of S, exp(log_scale): at 100 every term of an untrained row would underflow.
"""

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Carry, Placed
from training.terms.cores.interface import CoreOutput, Problem
from training.terms.cores.positives import Side
from training.terms.cores.problem.layout import common, length
from training.terms.cores.solution import Solution, solve
from training.terms.cores.step import How
from training.terms.cores.targets import Targets


def softmax(
    problem: Problem,
    targets: Targets | None,
    peers: Peers,
    *,
    exchange: str = "gather",
    tile: int | tuple[int, int] = 512,
    wire: str = "fp32",
    fused: bool = True,
    kernel: str = "torch",
) -> CoreOutput:
    """Collective. A bias shifts every score alike, so its gradient here is exactly zero.

    `targets`: None is one-hot, and then a row's texts after its first are no rivals of it. `tile`: side of the largest
    block of scores ever held, or its rows and columns. `wire="bf16"`: where features travel (more than one rank) loss
    and gradients are those of texts rounded to bfloat16 (`gather2`: of images, too), a relative error of at most 2^-9
    a number. `fused=False` spends an exponential each for rows and columns everywhere, as it is done on a GPU.
    `kernel`: what makes tiles of scores into sums and gradients, torch or triton.
    """
    sides = (tile, tile) if isinstance(tile, int) else tile
    return solve(_Softmax, problem, targets, peers, exchange, wire, How("softmax", sides, fused, kernel))


class _Softmax(Solution):
    def solved(self) -> CoreOutput:
        targets = self.targets
        margin = 0.0 if targets is None else targets.positive_margin + targets.negative_margin
        rows, columns = self.sides("first" if targets is None else targets.positives, margin)
        rows, columns, d_image, d_text = self._gradients(rows, columns)
        value, metrics = self.values(rows, columns)
        d_bias = None if self.problem.bias is None else torch.zeros_like(self.problem.bias)
        return CoreOutput(value, d_image, d_text, self.d_log_scale(d_image, d_text), d_bias, metrics)

    def _gradients(self, rows: Side, columns: Side) -> tuple[Side, Side, Tensor, Tensor]:
        """Second sweep: gradients by this rank's images and texts (none by the queue), and what the target adds."""
        N, D = self.images.shape
        span, own, spreading = self.way.row_span, self.layout.own.rows, self.spreading
        u_N, v_M = self.weights.row_N, self.weights.column_M
        row_shift_R = self.ends.placed(rows.shift if u_N is None else rows.shift - u_N.log(), torch.inf)
        column_shift = self.ends.read("shift", columns.shift if v_M is None else columns.shift - v_M.log())
        read = {"text": self.texts, "shift": column_shift, **spreading.read}
        carry: Carry = {"d_text": (0.0, (D,)), **({"spread": (0.0, (2,))} if spreading.there else {})}
        d_row = Placed(self.images.new_zeros((length(span), D)), span.start)
        sweep = self.way.sweep(read, carry)
        for tile in sweep:
            text_CD = tile.read["text"]
            scores_RC = self.scores.of(tile, text_CD, hidden=not spreading.there)
            spread_RC = None
            if spreading.there:
                spread_RC = spreading.add(tile, scores_RC)
                self.layout.hide(scores_RC, tile.rows, tile.columns)
            d_scores_RC = self.work.probabilities(tile, scores_RC, row_shift_R)
            if spread_RC is not None:
                d_scores_RC.sub_(spread_RC)
            graded = common(tile.rows, self.way.graded)
            if tile.for_rows and length(graded):
                d_row[graded].addmm_(d_scores_RC[: length(graded)], text_CD)
            if tile.for_columns:
                tile.carry["d_text"].addmm_(d_scores_RC.T, self.scores.row_RD[tile.rows])
        if spreading.there:
            rows, columns = spreading.applied(rows, columns, sweep.home("spread"))
        own_M = self.weights.rows_of(rows.d_own_M) + self.weights.columns_of(columns.d_own_M)
        own_M, d_image = self.ends.own_columns(own_M), d_row[own][:N]
        d_text = sweep.home("d_text", lambda d_MD: self.add_own(d_image, d_MD, own_M))
        factor = 0.5 / self.layout.pairs * self.scale
        return rows, columns, d_image.mul_(factor), d_text.mul_(factor)
