"""The rows of a step that count, on all ranks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.rows import VALID, Rows


@dataclass(frozen=True)
class Everyone:
    """Which of this rank's rows count, the pairs they are, and those of all ranks."""

    peers: Peers
    valid_N: Tensor  # bool, of all rows of this rank
    ids_N: Tensor  # int64, of those that count: rows of equal id are one pair, met twice
    every_ids_G: Tensor
    counts: list[int]

    @classmethod
    def of(cls, rows: Rows, peers: Peers) -> "Everyone":
        """Collective."""
        ids_N = rows["id"][rows[VALID]].contiguous()
        every, counts = peers.gather_rows(ids_N)
        return cls(peers, rows[VALID], ids_N, every, counts)

    @property
    def pairs(self) -> int:
        return sum(self.counts)

    @property
    def own(self) -> slice:
        """Where this rank's rows stand among all."""
        start = sum(self.counts[: self.peers.rank])
        return slice(start, start + self.counts[self.peers.rank])

    def rivals(self) -> Tensor:
        """How many ordered pairs of rows are not one pair (0-dim float64)."""
        times = torch.unique(self.every_ids_G, return_counts=True)[1].double()
        return self.pairs**2 - (times * times).sum()

    def gathered(self, own_N: Tensor) -> Tensor:
        """Of the rows of all ranks, without a graph."""
        given = own_N.byte() if own_N.dtype == torch.bool else own_N
        return self.peers.gather_rows(given, self.counts)[0].to(own_N.dtype)
