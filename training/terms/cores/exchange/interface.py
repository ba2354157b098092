"""One pass of all columns over the rows that this rank scores.

    sweep = exchange.sweep({"text": text_MD}, {"total": (0.0, ())})
    for tile in sweep:            # every score that this rank answers for is in one tile, or in two of `gather2`
        ... tile.read["text"] ... tile.carry["total"][...] += ...
    total_M = sweep.home("total") # of this rank's own columns, over the rows of all ranks

What is read travels with the columns; what is carried is gathered up under way. Positions are global (`layout.py`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from training.ranks.peers import Peers
from training.terms.cores.problem.layout import Layout, common, length

Carry = dict[str, tuple[float, tuple[int, ...]]]  # by name: fill value, and shape beside the columns


@dataclass(frozen=True)
class Placed:
    """A tensor whose first row stands at the global position `start`, cut by global positions."""

    tensor: Tensor
    start: int

    def __getitem__(self, cut: slice) -> Tensor:
        return self.tensor[cut.start - self.start : cut.stop - self.start]


@dataclass(frozen=True)
class Block:
    """Columns that come together: their number in the sweep, and all that is read of them."""

    number: int
    read: dict[str, Tensor]


@dataclass(frozen=True)
class Tile:
    """Rows by columns. `for_rows`: what it says of its rows counts here; `for_columns`: of its columns, likewise."""

    rows: slice
    columns: slice
    for_rows: bool
    for_columns: bool
    block: "Block"
    read: dict[str, Tensor]  # of these columns
    carry: dict[str, Tensor]  # of these columns, to add to in place; absent where not `for_columns`


class Sweep(Protocol):
    def __iter__(self) -> Iterator[Tile]: ...

    def home(self, name: str, own: Callable[[Tensor], None] | None = None) -> Tensor:
        """What was carried, of this rank's columns, summed over all rows; `own` adds to it in place, before the sum
        over ranks where there is one."""
        ...

    def home_max(self, name: str) -> Tensor:
        """What was carried, as the largest over all rows."""
        ...

    def home_lse(self) -> tuple[Tensor, Tensor]:
        """(maximum, sum of exponentials less that maximum) from what was carried as `top` and `total`."""
        ...


class Exchange(Protocol):
    layout: Layout
    peers: Peers
    row_span: slice  # rows that tiles for rows may touch; this rank's own are among them
    graded: slice  # those of them that get a gradient: no queue
    whole: bool  # every rank holds all rows and columns, and no bit may depend on how they are shared out

    def rows(self, name: str, own_R: Tensor) -> Placed:
        """What tiles need of their rows, from this rank's own."""
        ...

    def columns(self, name: str, own_M: Tensor) -> Tensor:
        """Of all ranks' columns; of use where `whole`."""
        ...

    def keep(self, name: str, own_M: Tensor, every_M: Tensor) -> None:
        """All ranks' columns are known already: no need to gather them when a sweep reads them."""
        ...

    def sweep(self, read: dict[str, Tensor], carry: Carry) -> Sweep:
        """`read`: tensors of this rank's columns, features first."""
        ...


def tiles_of(rows: slice, columns: slice, sides: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Every tile of a rectangle; row tiles count from its first row, column tiles from its first column."""
    tall, wide = sides
    for top in range(rows.start, rows.stop, tall):
        for left in range(columns.start, columns.stop, wide):
            yield slice(top, min(top + tall, rows.stop)), slice(left, min(left + wide, columns.stop))


def fresh(read: dict[str, Tensor], carry: Carry, columns: int) -> dict[str, Tensor]:
    """What is carried, before the first tile."""
    like = next(iter(read.values()))
    return {name: like.new_full((columns, *shape), fill) for name, (fill, shape) in carry.items()}


def meets(a: slice, b: slice) -> bool:
    return length(common(a, b)) > 0


def wired(tensor: Tensor, wire: torch.dtype | None) -> Tensor:
    """As it travels: features in `wire`, all else as it is."""
    return tensor if wire is None or tensor.dim() < 2 or not tensor.is_floating_point() else tensor.to(wire)
