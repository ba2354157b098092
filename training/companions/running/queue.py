"""The last pairs of a sequence, shared out over the ranks that brought them.

The sequence is that of the steps and, in a step, of ranks and their rows: the same for any number of ranks.
"""

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.rows import Rows


class Queue:
    """`rows`: this rank's share, of columns that all have an entry a pair. Every method is collective."""

    def __init__(self, size: int, peers: Peers) -> None:
        self._size, self._peers = size, peers
        self._counts: list[list[int]] = []  # pairs of every rank, by step, oldest first
        self.rows: Rows = {}

    def push(self, rows: Rows) -> None:
        own = torch.tensor([len(next(iter(rows.values())))], device=self._peers.device)
        counts = self._peers.gather_rows(own, [1] * self._peers.world)[0].tolist()
        self.rows = {n: torch.cat([self.rows[n], column]) if n in self.rows else column for n, column in rows.items()}
        self._counts.append(counts)
        self._drop(sum(map(sum, self._counts)) - self._size)

    def _drop(self, many: int) -> None:
        """The oldest ones; of one step, those of the first ranks."""
        mine = 0
        while many > 0:
            counts = self._counts[0]
            for rank, count in enumerate(counts):
                gone = min(many, count)
                counts[rank], many = count - gone, many - gone
                mine += gone if rank == self._peers.rank else 0
            if not sum(counts):
                self._counts.pop(0)
        self.rows = {name: column[mine:] for name, column in self.rows.items()}

    def whole(self, name: str) -> Tensor:
        """A column of all ranks, oldest first."""
        own = self.rows[name].split([counts[self._peers.rank] for counts in self._counts])
        steps = zip(own, self._counts, strict=True)
        return torch.cat([self._peers.gather_rows(part, counts)[0] for part, counts in steps])

    def fill(self, rows: Rows) -> None:
        """From columns of all ranks, oldest first: each rank takes a run of them."""
        size = len(next(iter(rows.values())))
        edges = [size * rank // self._peers.world for rank in range(self._peers.world + 1)]
        self._counts = [[b - a for a, b in zip(edges, edges[1:], strict=False)]]
        own = slice(edges[self._peers.rank], edges[self._peers.rank + 1])
        self.rows = {name: column[own].to(self._peers.device) for name, column in rows.items()}
        self._drop(size - self._size)
