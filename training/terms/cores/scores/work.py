"""What is made of a tile's scores between its products, whoever does it. All of it destroys the scores."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from training.terms.cores.exchange.interface import Placed, Tile
from training.terms.cores.scores.running import Running


@dataclass(frozen=True)
class Asked:
    """Of the questions of a tile's rows, or of its columns: to be added to in place. `d_total`: of rows alone."""

    loss: Tensor
    top: Tensor
    d_total: Tensor | None = None


class Work(Protocol):
    def fold(self, rows: Running | None, columns: Running | None, scores_RC: Tensor) -> None:
        """Takes a tile into its rows and its columns, either of which may be left out."""
        ...

    def probabilities(self, tile: Tile, scores_RC: Tensor, row_shift_R: Placed) -> Tensor:
        """exp(S - row shift) + exp(S - column shift); the tile reads the column's as `shift`."""
        ...

    def questions(
        self,
        scores_RC: Tensor,
        rows: Asked | None,
        columns: Asked | None,
        weights: tuple[Tensor, Tensor] | None,
        spread_RC: Tensor | None,
    ) -> Tensor:
        """Every score a question by itself, answered "no": its loss softplus(S) into rows and columns, and dS, which is
        sigmoid(S), times the sum of its row's and its column's weight, less `spread`.
        """
        ...
