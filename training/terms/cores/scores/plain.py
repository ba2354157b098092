"""What is made of a tile's scores, by torch."""

import torch
from torch import Tensor

from training.terms.cores.exchange.interface import Placed, Tile
from training.terms.cores.scores.running import Running
from training.terms.cores.scores.scores import Scores
from training.terms.cores.scores.work import Asked

_APART = 60.0  # exp(-60) and terms of exp(-27) of it are normal numbers of float32
_SPAN = 80.0  # half of it above and half below the middle, as exponents


class Plain:
    """`fused`: where no row's or column's maximum is far below the tile's, one exponential serves rows and columns,
    which saves a third of what is not multiplication. Which way is taken depends on the tile alone, so the bits do,
    too. A GPU would have to be waited for.
    """

    def __init__(self, scores: Scores, fused: bool) -> None:
        self._spare, self._fused = scores.spare, fused
        self._zero = torch.zeros_like(scores.scale)
        self._middle: dict[int, float | None] = {}  # of each block of a sweep

    def fold(self, rows: Running | None, columns: Running | None, scores_RC: Tensor) -> None:
        row_top, column_top = scores_RC.amax(1), scores_RC.amax(0)
        if self._fused:
            top = row_top.max()
            if bool(top - torch.minimum(row_top.min(), column_top.min()) < _APART):
                scores_RC.sub_(top).exp_()
                if rows is not None:
                    rows.add(row_top, scores_RC.sum(1), top)
                if columns is not None:
                    columns.add(column_top, scores_RC.sum(0), top)
                return
        if rows is not None:
            rows.fold(row_top, scores_RC, self._spare(scores_RC), 1)
        if columns is not None:
            columns.fold(column_top, scores_RC, self._spare(scores_RC), 0)

    def probabilities(self, tile: Tile, scores_RC: Tensor, row_shift_R: Placed) -> Tensor:
        row_R, column_C = row_shift_R[tile.rows], tile.read["shift"]
        spare_RC, middle = self._spare(scores_RC), self._middle_of(tile, row_shift_R)
        if middle is not None:
            # exp(S - m) (exp(m - row shift) + exp(m - column shift)): sums and products in place of an exponential
            row_R, column_C = (middle - row_R).exp_(), (middle - column_C).exp_()
            factor_RC = torch.add(row_R[:, None], column_C, out=spare_RC)
            return scores_RC.sub_(middle).exp_().mul_(factor_RC)
        torch.sub(scores_RC, row_R[:, None], out=spare_RC).exp_()
        return spare_RC.add_(scores_RC.sub_(column_C).exp_())

    def questions(
        self,
        scores_RC: Tensor,
        rows: Asked | None,
        columns: Asked | None,
        weights: tuple[Tensor, Tensor] | None,
        spread_RC: Tensor | None,
    ) -> Tensor:
        loss_RC = torch.logaddexp(scores_RC, self._zero, out=self._spare(scores_RC))
        for asked, dim in ((rows, 1), (columns, 0)):
            if asked is not None:
                asked.loss.add_(loss_RC.sum(dim))
                torch.maximum(asked.top, scores_RC.amax(dim), out=asked.top)
        d_RC = scores_RC.sigmoid_()
        if weights is not None:
            row_R, column_C = weights
            d_RC.mul_(torch.add(row_R[:, None], column_C, out=self._spare(d_RC)))
        if spread_RC is not None:
            d_RC.sub_(spread_RC)
        if rows is not None and rows.d_total is not None:
            rows.d_total.add_(d_RC.sum(1))
        return d_RC

    def _middle_of(self, tile: Tile, row_shift_R: Placed) -> float | None:
        block = tile.block
        if self._fused and block.number not in self._middle:
            self._middle[block.number] = _middle_of(row_shift_R.tensor, block.read["shift"])
        return self._middle.get(block.number)


def _middle_of(row_shift: Tensor, column_shift: Tensor) -> float | None:
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
