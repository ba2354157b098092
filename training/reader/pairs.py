"""Verified bytes of pairs: the shards of several datasets of the contract seen as one row of shards."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.contract.dataset import Dataset, RawPair, open_dataset
from pipeline.errors import DataError
from pipeline.outputs import REPORT
from pipeline.settings import digest_of

_BYTES_A_PAIR = 130  # of an index held in memory
_INDEX_BYTES = 512 << 20  # most memory that a reading process spends on indices
_LOCAL = ("file://", "memory://")
Map = Callable[[Callable, Iterable], Iterable[Any]]


class Pairs:
    """A pair is (shard, row); shards are numbered through all datasets, in the order of the recipe."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.datasets = list(datasets)
        self._shards = [(dataset, number) for dataset in datasets for number in range(len(dataset.shards))]
        self.shard_pairs = np.array([dataset.shards[n].num_pairs for dataset, n in self._shards], dtype=np.int64)
        self.digest = digest_of([dataset.digest for dataset in datasets])
        self.remote = any("://" in d.url and not d.url.startswith(_LOCAL) for d in datasets)

    @property
    def num_pairs(self) -> int:
        return int(self.shard_pairs.sum())

    def place(self, shard: int) -> tuple[Dataset, int]:
        """The dataset that a shard is of, and its number there."""
        return self._shards[shard]

    def shard_url(self, shard: int) -> str:
        dataset, number = self._shards[shard]
        return dataset.shards[number].url

    def shard_name(self, shard: int) -> str:
        dataset, number = self._shards[shard]
        return dataset.shards[number].name

    def keep_open(self, lanes: int, window: int) -> None:
        """Makes room for the indices that a reader of so many lanes hops between."""
        for dataset in self.datasets:
            dataset.keep_open(min(self.shards_open(lanes, window, _BYTES_A_PAIR), len(dataset.shards)))

    def shards_open(self, lanes: int, window: int, bytes_a_pair: int) -> int:
        """Shards whose indices to keep, within `_INDEX_BYTES`. A lane draws from a window of neighbouring pairs, which
        may touch one shard more than it can fill."""
        mean_pairs = max(1.0, self.num_pairs / max(1, len(self._shards)))
        return min(lanes * (2 + int(window / mean_pairs)), int(_INDEX_BYTES / (bytes_a_pair * mean_pairs)))

    def uids(self, shards: np.ndarray, rows: np.ndarray) -> list[str]:
        """The uids of pairs, from the index alone, in the order asked."""

        def look_up(shard: int, wanted: np.ndarray) -> list[str]:
            dataset, number = self._shards[shard]
            return dataset.table(number)["uid"].take(wanted).to_pylist()

        return by_shard(shards, rows, look_up, map)

    def read(self, shards: np.ndarray, rows: np.ndarray, each: Map = map) -> list[RawPair]:
        """Pairs in the order asked; one merged read for neighbours. `each` may run the shards in parallel.

        Raises DataError naming the shard when bytes are not those of the index.
        """

        def fetch(shard: int, wanted: np.ndarray) -> list[RawPair]:
            dataset, number = self._shards[shard]
            return dataset.read_many(number, wanted)

        return by_shard(shards, rows, fetch, each)


def open_pairs(paths: Sequence[str], cache: str | None = None) -> Pairs:
    """Opens datasets (folders or URLs); `cache`: a folder that keeps the index of tars that have none.

    Raises DataError when one is unfinished, damaged or holds no pair.
    """
    datasets = [open_dataset(path, cache) for path in paths]
    for path, dataset in zip(paths, datasets, strict=True):
        if dataset.num_pairs == 0:
            raise DataError(
                path, "holds no pairs", "expected at least one", f"check what the curation dropped: {REPORT}"
            )
    return Pairs(datasets)


def by_shard(shards: np.ndarray, rows: np.ndarray, action: Callable[[int, np.ndarray], list], each: Map) -> list:
    """action(shard, its rows) for every shard among `shards`; results in the order of the input."""
    order = np.argsort(shards, kind="stable")
    cuts = np.flatnonzero(np.diff(shards[order])) + 1
    groups = np.split(order, cuts) if len(order) else []
    found: list[Any] = [None] * len(order)
    for group, results in zip(
        groups, each(lambda group: action(int(shards[group[0]]), rows[group]), groups), strict=True
    ):
        for place, result in zip(group.tolist(), results, strict=True):
            found[place] = result
    return found
