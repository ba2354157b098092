"""Weights of rows and columns, and means over the ranks.

The loss is half of sum(u_i L_i) / U plus half of sum(v_j L_j) / V, with U and V the sums of the weights on all ranks.
Weights are kept relative to the number of pairs, so that where all are 1 there is nothing to multiply with.
"""

import torch
from torch import Tensor

from training.terms.cores.ends import Ends
from training.terms.cores.interface import Problem
from training.terms.cores.positives import Side


class Weights:
    """`row_N` is u_i pairs / U, `column_M` is v_j pairs / V; None: 1 for each."""

    def __init__(self, problem: Problem, ends: Ends) -> None:
        self._ends, layout = ends, ends.way.layout
        self.pairs, dtype = layout.pairs, problem.image_ND.dtype
        given_N, given_M = problem.image_weight_N, problem.text_weight_M
        self.row_N = None if given_N is None else self._relative(ends.rows(given_N.to(dtype)))
        self.column_M: Tensor | None = None
        if layout.columns > self.pairs or given_M is not None:
            owned_M = (ends.owner_M >= 0).to(dtype)
            weight_M = owned_M if given_M is None else torch.where(owned_M > 0, ends.columns(given_M.to(dtype)), 0)
            self.column_M = self._relative(weight_M)

    def _relative(self, weight: Tensor) -> Tensor:
        total = self._ends.total(weight)
        return (weight * torch.where(total > 0, self.pairs / total, 0)).to(weight.dtype)

    def rows_of(self, value_M: Tensor) -> Tensor:
        """Numbers per text, weighed by the row that owns it."""
        if self.row_N is None or not len(self.row_N):
            return value_M
        return value_M * self.row_N[self._ends.owner_M.clamp(min=0)]

    def columns_of(self, value_M: Tensor) -> Tensor:
        return value_M if self.column_M is None else value_M * self.column_M

    def means(self, rows: Side, columns: Side) -> Tensor:
        """Over all ranks, float64: loss of rows, of columns, hits of rows, of columns."""
        of_rows = [value if self.row_N is None else value * self.row_N for value in (rows.loss, rows.hit)]
        of_columns = [self.columns_of(value) for value in (columns.loss, columns.hit)]
        return self._ends.total(of_rows[0], of_columns[0], of_rows[1], of_columns[1]) / self.pairs
