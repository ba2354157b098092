"""Columns of all ranks gathered; what is carried for them is summed over ranks and scattered.

Traffic per rank in a softmax step, B columns of width D, e bytes a number of a feature on the wire: B D e for the
texts, 4 B D for their gradients, 16 B for their sums of exponentials.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Block, Carry, Placed, Tile, fresh, tiles_of, wired
from training.terms.cores.problem.layout import Layout


class Gather:
    whole = False

    def __init__(self, layout: Layout, peers: Peers, sides: tuple[int, int], wire: torch.dtype | None) -> None:
        self.layout, self.peers, self.sides, self.wire = layout, peers, sides, wire
        self.row_span = layout.own.rows
        self.graded = slice(self.row_span.start, self.row_span.start + layout.own.pairs)
        self._had: dict[str, tuple[Tensor, Tensor]] = {}

    def rows(self, name: str, own_R: Tensor) -> Placed:
        return Placed(own_R, self.row_span.start)

    def sweep(self, read: dict[str, Tensor], carry: Carry) -> "_Sweep":
        return _Sweep(self, {name: self.columns(name, own) for name, own in read.items()}, carry)

    def columns(self, name: str, own_M: Tensor) -> Tensor:
        """Once per name and tensor: the second sweep reads the texts of the first."""
        had = self._had.get(name)
        if had is None or had[0] is not own_M:
            every, _ = self.peers.gather_rows(wired(own_M, self.wire), self.layout.column_counts)
            had = self._had[name] = own_M, every.to(own_M.dtype)
        return had[1]

    def keep(self, name: str, own_M: Tensor, every_M: Tensor) -> None:
        pass


class _Sweep:
    def __init__(self, exchange: Gather, read: dict[str, Tensor], carry: Carry) -> None:
        self._at, self._read = exchange, read
        self._carry = fresh(read, carry, exchange.layout.columns)

    def __iter__(self) -> Iterator[Tile]:
        layout, block = self._at.layout, Block(0, self._read)
        for rows, columns in tiles_of(layout.own.rows, slice(0, layout.columns), self._at.sides):
            read = {name: every[columns] for name, every in self._read.items()}
            carry = {name: every[columns] for name, every in self._carry.items()}
            yield Tile(rows, columns, True, True, block, read, carry)

    def home(self, name: str, own: Callable[[Tensor], None] | None = None) -> Tensor:
        every = self._carry.pop(name)
        if own is not None:
            own(every[self._at.layout.own.columns])
        return self._at.peers.scatter_sum_rows(every, self._at.layout.column_counts)

    def home_max(self, name: str) -> Tensor:
        return self._at.peers.all_max(self._carry.pop(name))[self._at.layout.own.columns]

    def home_lse(self) -> tuple[Tensor, Tensor]:
        top = self._carry.pop("top")
        world_top = self._at.peers.all_max(top)
        self._carry["total"].mul_((top - world_top).exp_())
        return world_top[self._at.layout.own.columns], self.home("total")
