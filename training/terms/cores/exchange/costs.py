"""What a step of a core moves, computes and holds: the formulae, for plans. Tests hold them against what collectives,
and the operations themselves, are counted to do.

Letters as in the field's papers: B pairs of W ranks, b = B / W of each, D features, e bytes of a number of a feature
as it travels (4 or 2). What a rank of a ring receives: see `training.ranks.peers`. Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from training.ranks.ring import F32, F64, I64, gathered, summed

_BLOCK = 4096  # rows that pairs' own scores are made of at a time
_BLOCKS = 2  # of a tile: scores, and as much to spare
_SHARES = 5  # of a tile: a target's shares of rows and columns, products of theirs, and a copy


@dataclass(frozen=True)
class CoreStep:
    """One step, alike on every rank, where every row counts; where ranks differ, of the fullest.

    `further`: texts of a rank beside the first ones of its pairs, the queue's among them; `queued`: its queued images.
    `weighed`: pairs have weights; `labels`, `spread`: of the target, a label is gathered, or some of it lies off the
    pairs; `soft`: widths of the vectors whose scores some of it is made of (`targets.soft`).
    """

    core: str
    exchange: str
    ranks: int
    pairs: int
    width: int
    wire: int = F32
    tile: tuple[int, int] = (512, 512)
    further: int = 0
    queued: int = 0
    ids: bool = True
    weighed: bool = False
    labels: bool = False
    spread: bool = False
    soft: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return self.pairs + self.queued

    @property
    def texts(self) -> int:
        return self.pairs + self.further

    # -- bytes

    def moved(self) -> int:
        """Bytes that each rank receives.

        The leading terms of plain texts, W large: gather B D (e + 4) + 16 B, gather2 2 B D e + 20 B, ring B D (2 e + 4)
        + 12 B; sigmoid, which needs no sums before it: gather B D (e + 4) + 12 B, gather2 2 B D e + 24 B, ring
        B D (e + 4) + 8 B. Collectives move equal blocks, so b is that of the largest rank.
        """
        if self.exchange not in ("gather", "gather2", "ring"):
            raise KeyError(self.exchange)
        if self.core not in ("softmax", "sigmoid"):
            raise KeyError(self.core)
        if self.ranks == 1:
            return 0
        travels = {"gather": self._gathers, "gather2": self._gathers_both, "ring": self._rings}[self.exchange]()
        return self._layout() + self._weights() + travels + sum(map(self._of_soft, self.soft))

    def _gathered(self, size: int) -> int:
        return gathered(size, self.ranks)

    def _summed(self, size: int) -> int:
        return summed(size, self.ranks)

    def _layout(self) -> int:
        """Three sizes of each rank, the owners of further texts, ids and whether there is one, labels."""
        found = self._gathered(3 * I64)
        found += self._gathered(self.texts * I64) if self.further else 0
        found += self._gathered(self.rows * (I64 + 1)) if self.ids else 0
        return found + (self._gathered(self.rows * I64) if self.labels else 0)

    def _weights(self) -> int:
        if self.exchange == "gather2":
            return self._gathered((self.pairs + self.texts) * F32) if self.weighed else 0
        return (self.weighed + (self.weighed or self.further > 0)) * self._summed(F64)

    def _scalars(self) -> int:
        """Losses and hits, gradients of scale and bias, where not every rank sums up everything."""
        return self._summed(4 * F64) + (3 if self.core == "sigmoid" else 1) * self._summed(F64)

    @property
    def _read(self) -> int:
        """Bytes a column that a sweep reads beside features: shifts or halves of weights, weights of the target."""
        halves = self.weighed or self.further > 0 or self.queued > 0
        own = F32 if self.core == "softmax" or halves else 0
        return own + (F32 if self.spread else 0)

    @property
    def _carried(self) -> int:
        """Bytes a column that come home from the sweep that gives gradients, beside maxima."""
        return F32 * self.width + (0 if self.core == "softmax" else F32) + (2 * F32 if self.spread else 0)

    def _gathers(self) -> int:
        M = self.texts
        texts = self._gathered(M * self.width * self.wire)
        tops = self._summed(self.ranks * M * F32) + (self._gathered(M * F32) if self.core == "softmax" else 0)
        return texts + tops + self._gathered(M * (self._read + self._carried)) + self._scalars()

    def _gathers_both(self) -> int:
        """Two numbers each of rows and of columns, sum(x . dx) by row; in sigmoid also what gives the bias its own."""
        b, M, D = self.pairs, self.texts, self.width
        dots = M if self.queued else b
        numbers = 2 * (b + M) + dots + (self.rows if self.core == "sigmoid" else 0)
        numbers += 2 * (b + M) if self.spread else 0
        return self._gathered((self.rows + M) * D * self.wire + numbers * F32)

    def _rings(self) -> int:
        """What is read makes W - 1 hops, what is carried one more, home."""
        M = self.texts
        text = M * self.width * self.wire
        first = self._gathered(text) if self.core == "softmax" else 0
        home = self.ranks * M * (self._carried + (2 if self.core == "softmax" else 1) * F32)
        return first + home + self._gathered(text + M * self._read) + self._scalars()

    def _of_soft(self, F: int) -> int:
        """As much as the core for features of that width; in softmax a sweep more, for sums of exponentials."""
        M, text = self.texts, self.texts * F * self.wire
        softmax = self.core == "softmax"
        if self.exchange == "gather2":
            sums = 2 * (self.pairs + M) * F32 if softmax else 0
            return self._gathered(self.rows * F * self.wire + text + sums)
        if self.exchange == "gather":
            sums = self._summed(self.ranks * M * F32) + self._gathered(2 * M * F32) if softmax else 0
            return self._gathered(text) + sums
        sums = self._gathered(text + M * F32) + self.ranks * M * 2 * F32 if softmax else 0
        return self._gathered(text) + sums

    # -- products and bytes of memory

    def flops(self) -> int:
        """Of matrix products on the rank that has most of them: 2 D for a score that is made, and for each gradient it
        is a part of; scores of the target's vectors as often as those of features."""
        scores, rows, columns = self._areas()
        made = 2 if self.core == "softmax" else 1
        found = 2 * self.width * (made * scores + rows + columns)
        return found + sum(2 * width * made * scores for width in self.soft)

    def scores(self) -> int:
        """How many a sweep makes."""
        return self._areas()[0]

    def _areas(self) -> tuple[int, int, int]:
        """Scores that a sweep makes; of these, those that are part of rows' gradients, and of columns'."""
        if self.exchange != "gather2":
            columns = self.ranks * self.texts
            return self.rows * columns, self.pairs * columns, self.rows * columns
        return max(map(self._areas_of, range(self.ranks)))

    def _areas_of(self, rank: int) -> tuple[int, int, int]:
        """`gather2`: tiles of one grid over the whole step, those that touch the rank's rows or columns."""
        every = self.ranks * self.rows, self.ranks * self.texts
        tall, wide = (
            _on_grid(rank * own, own, side, end)
            for own, side, end in zip((self.rows, self.texts), self.tile, every, strict=True)
        )
        of_rows, of_columns = tall * every[1], every[0] * wide
        return of_rows + of_columns - tall * wide, of_rows, of_columns

    def held(self) -> int:
        """Bytes, beside features and gradients of this rank's own rows, and copies of those."""
        return F32 * (sum(self._features()) + self._numbers() + self._tiles())

    def _features(self) -> Iterator[int]:
        """Numbers of features and gradients of all ranks; of further texts, joined and taken apart."""
        M, every = self.texts, self.ranks * self.texts
        if self.ranks > 1 or self.exchange == "gather2":
            of_all = {"gather": every, "gather2": self.ranks * self.rows + every, "ring": 2 * M}[self.exchange]
            carried = {"gather": every, "gather2": self.rows + M, "ring": 2 * M}[self.exchange]
            yield from (self.width * (of_all + carried), sum(self.soft) * of_all)
        yield self.width * (3 * self.further + self.queued)
        yield 2 * min(self.texts, _BLOCK) * self.width  # pairs' own scores

    def _numbers(self) -> int:
        """A few of each column of all ranks: sums, owners, ids."""
        columns = self.texts if self.exchange == "ring" else self.ranks * self.texts
        return 4 * columns + (4 * self.ranks * self.rows if self.ids else 0)

    def _tiles(self) -> int:
        tall = min(self.tile[0], self.rows if self.exchange != "gather2" else self.ranks * self.rows)
        wide = min(self.tile[1], self.texts if self.exchange == "ring" else self.ranks * self.texts)
        return tall * wide * (_BLOCKS * (1 + len(self.soft)) + (_SHARES if self.spread else 0))


def _on_grid(start: int, size: int, side: int, end: int) -> int:
    """How far the tiles reach that touch `size` positions from `start`."""
    return min(-(-(start + size) // side) * side, end) - start // side * side if size else 0
