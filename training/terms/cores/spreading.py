"""The part of a target that lies off the pairs themselves, as a sweep meets it."""

from dataclasses import replace

import torch
from torch import Tensor

from training.terms.cores.exchange.interface import Placed, Tile
from training.terms.cores.positives import Side
from training.terms.cores.problem.layout import length
from training.terms.cores.step import Step
from training.terms.cores.targets import Spread, Targets
from training.terms.cores.weights import Weights


class Spreading:
    """What of the target lies off the pairs, in a sweep: taken from dS tile by tile, summed up for the values."""

    def __init__(self, step: Step, targets: Targets | None, weights: Weights) -> None:
        self._step, self._smoothing = step, 0.0 if targets is None else targets.smoothing
        self._spread: Spread | None = None if targets is None else targets.spread(step)
        self.there = self._spread is not None or self._smoothing > 0
        self.read: dict[str, Tensor] = {} if self._spread is None else dict(self._spread.read)
        span = step.way.row_span
        if self.there:
            self._rows = Placed(step.images.new_zeros((length(span), 2)), span.start)
            ones_N, ones_M = (torch.ones_like(end[:, 0]) for end in (step.ends.image_ND, step.ends.text_MD))
            # Of a question by itself there is one share, which rows and columns ask for by halves.
            part = 0.5 if step.how.core == "sigmoid" else 1.0
            self._weight_R = step.ends.placed((ones_N if weights.row_N is None else weights.row_N) * part, 0.0)
            weight_M = ones_M if weights.column_M is None else weights.column_M
            self.read["weight"] = step.ends.read("weight", weight_M * part)

    def shares(self, tile: Tile) -> tuple[Tensor, Tensor]:
        """Of rows and of columns, smoothed, with nothing where there is no rival."""
        step, layout, smoothing = self._step, self._step.layout, self._smoothing
        single = step.how.core == "sigmoid"
        among = (2, 2) if single else (layout.columns, layout.rows)  # alike over yes and no, or over all there are
        if self._spread is None:
            rows, columns = (step.images.new_zeros(length(tile.rows), length(tile.columns)) for _ in range(2))
        else:
            shares = self._spread.tile(tile)
            rows, columns = shares.of_rows_RC, shares.of_rows_RC.clone() if single else shares.of_columns_RC
        for share, of in zip((rows, columns), among, strict=True):
            share.mul_(1 - smoothing).add_(smoothing / of)
            layout.hide(share, tile.rows, tile.columns, 0.0)
        return rows, columns

    def add(self, tile: Tile, scores_RC: Tensor) -> Tensor:
        """Adds to the sums; what is to be taken from dS. `scores_RC`: nothing masked yet."""
        rows, columns = self.shares(tile)
        if tile.for_rows:
            self._rows[tile.rows].add_(torch.stack([rows.sum(1), (rows * scores_RC).sum(1)], 1))
        if tile.for_columns:
            tile.carry["spread"].add_(torch.stack([columns.sum(0), (columns * scores_RC).sum(0)], 1))
        return rows.mul_(self._weight_R[tile.rows][:, None]).add_(columns.mul_(tile.read["weight"]))

    def taken(self, rows: Side, columns: Side, spread_M: Tensor) -> tuple[Side, Side]:
        """Both sides of questions that stand by themselves: a share t of yes takes t times the score off the loss."""
        step, own = self._step, self._step.layout.own
        of_rows_N = step.ends.rows(self._rows[own.rows][: own.pairs])
        return (
            replace(rows, loss=rows.loss - of_rows_N[:, 1]),
            replace(columns, loss=columns.loss - step.ends.columns(spread_M)[:, 1]),
        )

    def applied(self, rows: Side, columns: Side, spread_M: Tensor) -> tuple[Side, Side]:
        """Both sides with what was summed up; `spread_M` came home with the sweep."""
        step, own = self._step, self._step.layout.own
        of_rows_N = step.ends.rows(self._rows[own.rows][: own.pairs])
        of_columns_M = step.ends.columns(spread_M)
        single = len(step.ends.owner_M) == len(rows.loss)
        return (
            rows.shared(of_rows_N, step.ends.first, None if single else step.ends.owner_M),
            columns.shared(of_columns_M, slice(0, 0), None),
        )
