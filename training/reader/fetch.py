"""Verified bytes of pairs: several datasets of the contract seen as one row of shards."""

from collections.abc import Sequence

import numpy as np


class Pairs:
    """Shards of all datasets, in the order of the recipe; a pair is (shard number, row)."""

    shard_pairs: np.ndarray  # pairs of each shard, int64
    digest: str  # names the content; changes when any dataset changes

    @property
    def num_pairs(self) -> int:
        return int(self.shard_pairs.sum())


def open_pairs(paths: Sequence[str], cache: str | None = None) -> Pairs:
    """Opens datasets (folders or URLs). DataError when one is unfinished, damaged or empty."""
    raise NotImplementedError
