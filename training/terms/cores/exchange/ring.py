"""Columns travel from rank to rank and meet the rows of each: no rank ever holds more than two blocks of them.

A block is scored while it is on its way to the next rank; what is carried for it follows once it is scored. After as
many hops as there are ranks it is home, complete.

Traffic per rank in a softmax step, about: 2 B D e for texts in two sweeps, 4 B D for their gradients, 12 B for sums.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Block, Carry, Placed, Tile, fresh, tiles_of, wired
from training.terms.cores.problem.layout import Layout, length, within


class Ring:
    whole = False

    def __init__(self, layout: Layout, peers: Peers, sides: tuple[int, int], wire: torch.dtype | None) -> None:
        self.layout, self.peers, self.sides, self.wire = layout, peers, sides, wire
        self.row_span = layout.own.rows
        self.graded = slice(self.row_span.start, self.row_span.start + layout.own.pairs)

    def rows(self, name: str, own_R: Tensor) -> Placed:
        return Placed(own_R, self.row_span.start)

    def columns(self, name: str, own_M: Tensor) -> Tensor:
        raise NotImplementedError("a ring never holds all columns")

    def keep(self, name: str, own_M: Tensor, every_M: Tensor) -> None:
        pass

    def sweep(self, read: dict[str, Tensor], carry: Carry) -> "_Sweep":
        return _Sweep(self, read, carry)


class _Sweep:
    def __init__(self, exchange: Ring, read: dict[str, Tensor], carry: Carry) -> None:
        self._at, self._read = exchange, read
        self._carry = fresh(read, carry, length(exchange.layout.own.columns))

    def __iter__(self) -> Iterator[Tile]:
        at, world = self._at, self._at.peers.world
        segments = at.layout.segments
        kinds = {name: tensor.dtype for name, tensor in self._read.items()}
        travelling = [wired(tensor, at.wire) for tensor in self._read.values()]
        for hop in range(world):
            coming = length(segments[(at.peers.rank - hop - 1) % world].columns)
            last = hop == world - 1
            arrive = None if last else at.peers.shift(travelling, coming)
            read = {name: tensor.to(kinds[name]) for name, tensor in zip(kinds, travelling, strict=True)}
            yield from self._block(hop, segments[(at.peers.rank - hop) % world].columns, read)
            if arrive is not None:
                travelling = arrive()
            self._carry = dict(zip(self._carry, at.peers.shift([*self._carry.values()], coming)(), strict=True))

    def _block(self, number: int, columns: slice, read: dict[str, Tensor]) -> Iterator[Tile]:
        block = Block(number, read)
        for r, c in tiles_of(self._at.layout.own.rows, columns, self._at.sides):
            place = within(c, columns)
            carry = {name: tensor[place] for name, tensor in self._carry.items()}
            yield Tile(r, c, True, True, block, {name: tensor[place] for name, tensor in read.items()}, carry)

    def home(self, name: str, own: Callable[[Tensor], None] | None = None) -> Tensor:
        mine = self._carry.pop(name)
        if own is not None:
            own(mine)
        return mine

    def home_max(self, name: str) -> Tensor:
        return self.home(name)

    def home_lse(self) -> tuple[Tensor, Tensor]:
        return self.home("top"), self.home("total")
