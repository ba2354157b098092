"""What a core asks of a target. The kinds are in `training.terms.targets`; None is one-hot."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from training.terms.cores.exchange.interface import Tile
from training.terms.cores.positives import Positives
from training.terms.cores.step import Step


@dataclass(frozen=True)
class Shares:
    """What of a tile's target lies off the pairs themselves; None: nothing.

    `of_rows_RC`: of each row's distribution over texts; `of_columns_RC`: of each text's distribution over images. What
    they lack to 1 goes to the pair itself: to a row's own texts alike, to a text's own row. Where a score is masked,
    or is of a pair, the core takes 0 whatever stands there. In the sigmoid core there is one answer to each question:
    `of_rows_RC` is the share of "yes", and `of_columns_RC` is not looked at.
    """

    of_rows_RC: Tensor
    of_columns_RC: Tensor


class Spread(Protocol):
    """A target that was prepared for one step: O(1) numbers a row and a column, or features of their own.

    `read` (by name) travels with the columns: tensors of this rank's.
    """

    @property
    def read(self) -> dict[str, Tensor]: ...

    def tile(self, tile: Tile) -> Shares: ...


class Targets(Protocol):
    positives: Positives
    smoothing: float  # of the target is spread over all texts (all images; in the sigmoid core: over yes and no) alike
    positive_margin: float  # taken off the scores of pairs
    negative_margin: float  # added to the scores of rivals

    def spread(self, step: Step) -> Spread | None:
        """Collective. None: nothing lies off the pairs, smoothing apart. `step.core` says whose question it is."""
        ...
