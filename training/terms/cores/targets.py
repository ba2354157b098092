"""What a core asks of a target. The kinds are in `training.terms.targets`; None is one-hot."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Exchange, Tile
from training.terms.cores.interface import Problem
from training.terms.cores.positives import Positives


@dataclass(frozen=True)
class Shares:
    """What of a tile's target lies off the pairs themselves.

    `of_rows_RC`: of each row's distribution over texts; `of_columns_RC`: of each text's distribution over images. What
    a row's entries lack to 1 goes to its own texts. Where a score is masked the core takes 0.
    """

    of_rows_RC: Tensor
    of_columns_RC: Tensor


class Shared(Protocol):
    """A target prepared for one step: `read` travels with the columns, `rows` stays (both by name)."""

    read: dict[str, Tensor]

    def tile(self, tile: Tile) -> Shares: ...


class Targets(Protocol):
    positives: Positives
    smoothing: float
    margin: float

    def prepare(self, problem: Problem, exchange: Exchange, peers: Peers) -> Shared | None:
        """Collective. None: nothing lies off the pairs."""
        ...
