"""Over which rows and columns a rank works out losses, once the sweeps have summed up the rivals: O(D) work a pair.

Its own, as a rule, and sums go over the ranks. Where no bit may depend on how rows are shared out, those of all ranks,
on every rank: a vector's last few numbers are not computed as its others are, so even an exponential of one number
depends on where in which vector it stands.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.terms.cores.exchange.interface import Exchange, Placed
from training.terms.cores.interface import Problem


@dataclass(frozen=True)
class Ends:
    """Pairs as far as they are looked at here: `owner_M` counts in `image_ND`, `first` in `text_MD`."""

    way: Exchange
    image_ND: Tensor
    text_MD: Tensor
    owner_M: Tensor
    first: slice | Tensor  # where the pairs' first texts are; a slice: pair i's is text i
    pair_at: Tensor | None  # of the whole: where among all rows the pairs are; None: there are no others

    def rows(self, own_N: Tensor) -> Tensor:
        """Numbers of this rank's pairs, as numbers of all pairs that are looked at."""
        return self._gathered(own_N, self.way.layout.row_pairs)

    def columns(self, own_M: Tensor) -> Tensor:
        return self._gathered(own_M, self.way.layout.column_counts)

    def placed(self, value_N: Tensor, fill: float) -> Placed:
        """Numbers of pairs, as what tiles read of their rows; `fill` for the queue."""
        layout, whole = self.way.layout, self.way.whole
        rows = slice(0, layout.rows) if whole else layout.own.rows
        every_R = value_N.new_full((rows.stop - rows.start,), fill)
        if self.pair_at is None:
            every_R[: len(value_N)] = value_N
        else:
            every_R[self.pair_at] = value_N
        return Placed(every_R, rows.start)

    def read(self, name: str, value_M: Tensor) -> Tensor:
        """Numbers of columns, as what a sweep reads of this rank's."""
        own_M = self.own_columns(value_M)
        self.way.keep(name, own_M, value_M)
        return own_M

    def own_columns(self, value_M: Tensor) -> Tensor:
        return value_M[self.way.layout.own.columns] if self.way.whole else value_M

    def total(self, *values: Tensor) -> Tensor:
        """Sums over all ranks of numbers that are looked at here: float64, one for each of `values`."""
        total = torch.stack([value.double().sum() for value in values])
        return total if self.way.whole else self.way.peers.all_sum(total)

    def total_of_own(self, own: Tensor, counts: list[int]) -> Tensor:
        """As `total`, of numbers of this rank's own rows or columns."""
        return self.total(self._gathered(own, counts))[0]

    def _gathered(self, own: Tensor, counts: list[int]) -> Tensor:
        return self.way.peers.gather_rows(own, counts)[0] if self.way.whole else own


def ends_of(problem: Problem, row_RD: Placed, way: Exchange, text: str) -> Ends:
    """Collective where all ranks look at everything. `row_RD`: images and queue, as tiles read them; `text`: the name
    by which they read texts."""
    assert problem.owner_M is not None
    if not way.whole:
        return Ends(way, problem.image_ND, problem.text_MD, problem.owner_M, slice(0, len(problem.image_ND)), None)
    layout, device = way.layout, problem.image_ND.device
    text_MD = way.columns(text, problem.text_MD)
    first: slice | Tensor = slice(0, layout.pairs)
    pair_at = None
    owner_M = torch.arange(layout.columns, device=device) if layout.owner_G is None else layout.owner_G
    if layout.columns > layout.pairs:
        starts = [(segment.columns.start, segment.pairs) for segment in layout.segments]
        first = torch.cat([torch.arange(start, start + pairs, device=device) for start, pairs in starts])
    if layout.rows > layout.pairs:
        starts = [(segment.rows.start, segment.pairs) for segment in layout.segments]
        pair_at = torch.cat([torch.arange(start, start + pairs, device=device) for start, pairs in starts])
        if layout.owner_G is not None:
            pair_of_R = owner_M.new_zeros(layout.rows)
            pair_of_R[pair_at] = torch.arange(layout.pairs, device=device)
            owner_M = torch.where(owner_M < 0, -1, pair_of_R[owner_M.clamp(min=0)])
    image_ND = row_RD.tensor if pair_at is None else row_RD.tensor[pair_at]
    return Ends(way, image_ND, text_MD, owner_M, first, pair_at)
