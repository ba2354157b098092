"""Weights of rows and columns, and sums over the ranks.

The loss is half of sum(u_i L_i) / U plus half of sum(v_j L_j) / V, with U and V the sums of the weights on all ranks.
Weights are kept relative to the number of pairs, so that where all are 1 there is nothing to multiply with.
"""

import torch
from torch import Tensor

from training.terms.cores.exchange.interface import Exchange
from training.terms.cores.interface import Problem


class Weights:
    """`row_N` is u_i pairs / U, `column_M` is v_j pairs / V; None: 1 for each."""

    def __init__(self, problem: Problem, way: Exchange) -> None:
        assert problem.owner_M is not None
        self.pairs, self._way = way.layout.pairs, way
        images, texts = problem.image_ND, problem.text_MD
        extra = way.layout.columns > self.pairs
        given_N, given_M = problem.image_weight_N, problem.text_weight_M
        if extra or given_M is not None:
            owned_M = (problem.owner_M >= 0).to(texts.dtype)
            given_M = owned_M if given_M is None else torch.where(owned_M > 0, given_M.to(texts.dtype), 0)
        self.row_N = None if given_N is None else self._relative(given_N.to(images.dtype), way.layout.row_pairs)
        self.column_M = None if given_M is None else self._relative(given_M, way.layout.column_counts)

    def rows_of(self, value_M: Tensor, owner_M: Tensor) -> Tensor:
        """Numbers per text, weighed by the row that owns it."""
        return value_M if self.row_N is None or not len(self.row_N) else value_M * self.row_N[owner_M.clamp(min=0)]

    def columns_of(self, value_M: Tensor) -> Tensor:
        return value_M if self.column_M is None else value_M * self.column_M

    def _relative(self, weight: Tensor, counts: list[int]) -> Tensor:
        total = self.world_sum(weight, counts)
        return (weight * torch.where(total > 0, self.pairs / total, 0)).to(weight.dtype)

    def world_sum(self, value: Tensor, counts: list[int]) -> Tensor:
        """Of one number a row, in float64; in the order of rows where no sum may depend on how they are shared out."""
        if self._way.sums_in_order:
            return self._way.peers.gather_rows(value, counts)[0].double().sum()
        return self._way.peers.all_sum(value.double().sum().reshape(1))[0]

    def means(self, rows: list[Tensor], columns: list[Tensor]) -> list[Tensor]:
        """Weighted means over all ranks of numbers per row, then of numbers per column: 0-dim, float64."""
        weighed = [_weighed(value, self.row_N) for value in rows]
        weighed += [_weighed(value, self.column_M) for value in columns]
        if self._way.sums_in_order:
            layout = self._way.layout
            counts = [layout.row_pairs] * len(rows) + [layout.column_counts] * len(columns)
            sums = torch.stack([self.world_sum(value, of) for value, of in zip(weighed, counts, strict=True)])
        else:
            sums = self._way.peers.all_sum(torch.stack([value.double().sum() for value in weighed]))
        return list((sums / self.pairs).unbind())


def _weighed(value: Tensor, weight: Tensor | None) -> Tensor:
    return value if weight is None else value * weight
