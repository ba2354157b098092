"""Scores of one tile, in memory that is used again, and what is made of them in place.

Fresh memory for each tile would cost more than its exponentials: a page of it is cleared when it is first touched.
"""

import torch
from torch import Tensor

from training.terms.cores.exchange.interface import Placed, Tile
from training.terms.cores.problem.layout import Layout

FLOOR = -1e30  # the maximum of nothing; finite, so that a row without rivals subtracts it without making a NaN
_APART = 60.0  # exp(-60) and terms of exp(-27) of it are normal numbers of float32
_SPAN = 80.0  # half of it above and half below the middle, as exponents


class Scores:
    """S_RC = scale * row . column, with -inf where they are no rivals."""

    def __init__(self, layout: Layout, row_RD: Placed, scale: Tensor, sides: tuple[int, int]) -> None:
        self.layout, self.row_RD, self.scale = layout, row_RD, scale
        tall, wide = sides
        self._memory = row_RD.tensor.new_empty((2, min(tall, layout.rows) * min(wide, layout.columns)))
        self._scaled: tuple[slice, Tensor] | None = None

    def of(self, tile: Tile, text_CD: Tensor, hidden: bool = True) -> Tensor:
        """`hidden=False`: what is no rival is left as it is."""
        if self._scaled is None or self._scaled[0] != tile.rows:
            self._scaled = tile.rows, self.row_RD[tile.rows] * self.scale
        scaled_RD = self._scaled[1]
        scores_RC = self._shaped(0, len(scaled_RD), len(text_CD))
        torch.mm(scaled_RD, text_CD.T, out=scores_RC)
        if hidden:
            self.layout.hide(scores_RC, tile.rows, tile.columns)
        return scores_RC

    def spare(self, scores_RC: Tensor) -> Tensor:
        """As much memory again, for one tile at a time."""
        return self._shaped(1, *scores_RC.shape)

    def _shaped(self, which: int, rows: int, columns: int) -> Tensor:
        return self._memory[which, : rows * columns].view(rows, columns)


class Running:
    """Maximum and sum of exponentials of rows, or of columns, tile after tile."""

    def __init__(self, top: Tensor, total: Tensor) -> None:
        self.top, self.total = top, total

    def add(self, maximum: Tensor, total: Tensor, of: Tensor) -> None:
        """A tile's maxima, and its sums of exponentials less `of`."""
        new_top = torch.maximum(self.top, maximum)
        self.total.mul_((self.top - new_top).exp_()).add_(total.mul_((of - new_top).exp_()))
        self.top.copy_(new_top)

    def fold(self, maximum: Tensor, scores_RC: Tensor, spare_RC: Tensor, dim: int) -> None:
        """A tile's maxima, and its scores."""
        new_top = torch.maximum(self.top, maximum)
        less_RC = torch.sub(scores_RC, new_top.unsqueeze(dim), out=spare_RC).exp_()
        self.total.mul_((self.top - new_top).exp_()).add_(less_RC.sum(dim))
        self.top.copy_(new_top)


def fold_both(rows: Running | None, columns: Running | None, scores: Scores, scores_RC: Tensor, fused: bool) -> None:
    """Takes a tile into its rows and its columns, either of which may be left out; destroys `scores_RC`.

    Where no row's or column's maximum is far below the tile's, one exponential serves both, which saves a third of
    what is not multiplication. Which way is taken depends on the tile alone, so the bits do, too.
    """
    row_top, column_top = scores_RC.amax(1), scores_RC.amax(0)
    if fused:
        top = row_top.max()
        if bool(top - torch.minimum(row_top.min(), column_top.min()) < _APART):
            scores_RC.sub_(top).exp_()
            if rows is not None:
                rows.add(row_top, scores_RC.sum(1), top)
            if columns is not None:
                columns.add(column_top, scores_RC.sum(0), top)
            return
    if rows is not None:
        rows.fold(row_top, scores_RC, scores.spare(scores_RC), 1)
    if columns is not None:
        columns.fold(column_top, scores_RC, scores.spare(scores_RC), 0)


def middle_of(row_shift: Tensor, column_shift: Tensor) -> float | None:
    """A number to take from all scores before one exponential serves both directions; None: they lie too far apart.

    Scores are below the shift of their row and of their column, so shifts in a span bound them from above. An infinite
    shift (of no weight) bounds nothing, so it may stand on one side only.
    """
    ends, infinite = [], 0
    for shift in (row_shift, column_shift):
        finite = shift[shift != torch.inf]
        infinite += len(finite) < len(shift)
        ends += [float(end) for end in finite.aminmax()] if len(finite) else []
    if infinite == 2 or not ends or not max(ends) - min(ends) < _SPAN:
        return None
    return (min(ends) + max(ends)) / 2


def probabilities(
    scores: Scores, scores_RC: Tensor, row_shift_R: Tensor, column_shift_C: Tensor, middle: float | None
) -> Tensor:
    """exp(S - row shift) + exp(S - column shift), in place of the scores."""
    spare_RC = scores.spare(scores_RC)
    if middle is not None:
        # exp(S - m) (exp(m - row shift) + exp(m - column shift)): sums and products in place of an exponential
        row_R, column_C = (middle - row_shift_R).exp_(), (middle - column_shift_C).exp_()
        factor_RC = torch.add(row_R[:, None], column_C, out=spare_RC)
        return scores_RC.sub_(middle).exp_().mul_(factor_RC)
    torch.sub(scores_RC, row_shift_R[:, None], out=spare_RC).exp_()
    return spare_RC.add_(scores_RC.sub_(column_shift_C).exp_())
