"""Scores of one tile, in memory that is used again.

Fresh memory for each tile would cost more than its exponentials: a page of it is cleared when it is first touched.
"""

import torch
from torch import Tensor

from training.terms.cores.exchange.interface import Placed, Tile
from training.terms.cores.problem.layout import Layout


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
