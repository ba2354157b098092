"""Both sides of all ranks gathered: each rank finishes its own rows and its own columns, and no gradient is summed.

Tiles stand on one grid over the whole step, whoever owns what is in them, and a rank makes every tile that touches its
rows or its columns, whole. So sums are taken in one order and no bit depends on how rows are shared out, or on the
number of ranks. Six products of b B D (four on one rank, where a tile is for rows and columns alike).

Traffic per rank in a softmax step: 2 B D e for images and texts, 16 B for their sums of exponentials, 4 B for the
gradient of the scale, which is summed in order, too.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.exchange.interface import Block, Carry, Placed, Tile, fresh, meets, tiles_of, wired
from training.terms.cores.problem.layout import Layout, length, within


class Gather2:
    whole = True

    def __init__(self, layout: Layout, peers: Peers, sides: tuple[int, int], wire: torch.dtype | None) -> None:
        self.layout, self.peers, self.sides, self.wire = layout, peers, sides, wire
        self.row_span = self.graded = _on_grid(layout.own.rows, sides[0], layout.rows)
        self.column_span = _on_grid(layout.own.columns, sides[1], layout.columns)
        self._had: dict[str, tuple[Tensor, Tensor]] = {}

    def rows(self, name: str, own_R: Tensor) -> Placed:
        return Placed(self._every(own_R, self.layout.row_counts), 0)

    def sweep(self, read: dict[str, Tensor], carry: Carry) -> "_Sweep":
        return _Sweep(self, {name: self.columns(name, own) for name, own in read.items()}, carry)

    def columns(self, name: str, own_M: Tensor) -> Tensor:
        had = self._had.get(name)
        if had is None or had[0] is not own_M:
            had = self._had[name] = own_M, self._every(own_M, self.layout.column_counts)
        return had[1]

    def keep(self, name: str, own_M: Tensor, every_M: Tensor) -> None:
        self._had[name] = own_M, every_M

    def _every(self, own: Tensor, counts: list[int]) -> Tensor:
        return self.peers.gather_rows(wired(own, self.wire), counts)[0].to(own.dtype)


class _Sweep:
    def __init__(self, exchange: Gather2, read: dict[str, Tensor], carry: Carry) -> None:
        self._at, self._read = exchange, read
        self._carry = fresh(read, carry, length(exchange.column_span))

    def __iter__(self) -> Iterator[Tile]:
        at, own = self._at, self._at.layout.own
        block, every = Block(0, self._read), slice(0, at.layout.columns)
        for rows, _ in tiles_of(slice(0, at.layout.rows), slice(0, 1), at.sides):
            for_rows = meets(rows, own.rows)
            for _, columns in tiles_of(rows, every if for_rows else at.column_span, at.sides):
                for_columns = meets(columns, own.columns)
                read = {name: tensor[columns] for name, tensor in self._read.items()}
                place = within(columns, at.column_span)
                carry = {name: tensor[place] for name, tensor in self._carry.items()} if for_columns else {}
                yield Tile(rows, columns, for_rows, for_columns, block, read, carry)

    def home(self, name: str, own: Callable[[Tensor], None] | None = None) -> Tensor:
        at = self._at
        mine = self._carry.pop(name)[within(at.layout.own.columns, at.column_span)]
        if own is not None:
            own(mine)
        return mine

    def home_max(self, name: str) -> Tensor:
        return self.home(name)

    def home_lse(self) -> tuple[Tensor, Tensor]:
        return self.home("top"), self.home("total")


def _on_grid(own: slice, side: int, end: int) -> slice:
    """The tiles of the grid that touch these positions."""
    if not length(own):
        return slice(own.start, own.start)
    return slice(own.start // side * side, min(-(-own.stop // side) * side, end))
