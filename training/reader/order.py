"""Which pairs a step draws: a pure function of (shard sizes, seed, global batch, lanes, window, step)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """n pairs in lane order; int64 arrays of length n."""

    lane: np.ndarray
    epoch: np.ndarray
    shard: np.ndarray
    row: np.ndarray


def default_lanes(global_batch: int) -> int:
    """The largest divisor of the global batch that is at most 1,024."""
    return max(lanes for lanes in range(1, min(global_batch, 1024) + 1) if global_batch % lanes == 0)


class Order:
    """Never stores anything per pair."""

    def __init__(self, shard_pairs: Sequence[int], *, seed: int, global_batch: int, lanes: int | None, window: int) -> None:
        raise NotImplementedError

    def lanes_of(self, rank: int, world: int) -> range:
        """The contiguous lanes of a rank; RecipeError when there are more ranks than lanes."""
        raise NotImplementedError

    def draw(self, step: int, lanes: range | None = None) -> Draw:
        """The pairs of `step` in the given lanes (all when None)."""
        raise NotImplementedError

    def epoch_at(self, step: int) -> float:
        """Passes over the data completed before `step`, for logs."""
        raise NotImplementedError
