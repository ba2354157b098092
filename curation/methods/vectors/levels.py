"""Centres in two levels: coarse ones, and of each its own finer ones (a vocabulary tree; Nister and Stewenius, 2006).

A vector goes to the nearest coarse centre, then to the nearest of that one's own: of 1,000 x 1,000 it meets 2,000.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from curation.methods.vectors.clusters import moved, sums_of
from curation.methods.vectors.nearest import Nearest, assigned, blocks_of, nearest

_ROWS = 2048


class Grown(NamedTuple):
    """centres: float32 [centre, value]; sizes: vectors nearest to each, before it moved last; rounds: of Lloyd."""

    centres: np.ndarray
    sizes: np.ndarray
    rounds: int


def grown(units: np.ndarray, first: np.ndarray, rounds: int, on_gpu: bool = False) -> Grown:
    """Lloyd's algorithm on vectors that are all here, from the centres `first`, until none moves."""
    centres, count, number = first, np.zeros(len(first), np.int64), 0
    while number < rounds:
        before, number = centres, number + 1
        own, _ = assigned(units, blocks_of(before), on_gpu)
        centres, count = moved(sums_of(units, own), before)
        if np.array_equal(centres, before):
            break
    return Grown(centres, count, number)


class Levels(NamedTuple):
    """coarse: float32 [centre, value]; fine: those of a coarse one, by its number, at least one; each: numbers that a
    coarse one has for its own, so that fine centre j of i has the number i x each + j."""

    coarse: np.ndarray
    fine: Callable[[int], np.ndarray]
    each: int

    def assigned(self, units: np.ndarray, on_gpu: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(number of the centre of each vector, int64; their cosine, float64)."""
        own, _ = assigned(units, blocks_of(self.coarse), on_gpu)
        number, cosine = np.zeros(len(units), np.int64), np.zeros(len(units))
        for coarse, rows in _by(own):
            blocks = blocks_of(self.fine(coarse), coarse * self.each)
            number[rows], cosine[rows] = assigned(units[rows], blocks, on_gpu)
        return number, cosine

    def nearest(self, units: np.ndarray, number: np.ndarray, most: int) -> list[np.ndarray]:
        """Of each vector its own centre, `number`, and the next nearest of those of the `most` nearest coarse ones."""
        found = Nearest(len(units), most)
        wide = nearest(units, blocks_of(self.coarse), min(most, len(self.coarse)))
        row = np.repeat(np.arange(len(units)), wide.shape[1])
        for coarse, places in _by(wide.reshape(-1)):
            fine = self.fine(coarse).astype(np.float64)
            numbers = coarse * self.each + np.arange(len(fine))
            for at in range(0, len(places), _ROWS):
                rows = row[places[at : at + _ROWS]]
                cosines = units[rows].astype(np.float64) @ fine.T
                cosines[numbers[None] == number[rows, None]] = np.inf  # its own comes first
                found.see(rows, cosines, numbers)
        return [found.of(at) for at in range(len(units))]


def _by(numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each number that is there, and where."""
    order = np.argsort(numbers, kind="stable")
    there, starts = np.unique(numbers[order], return_index=True)
    ends = np.r_[starts[1:], len(order)].astype(np.int64)
    return [(number, order[a:b]) for number, a, b in zip(there.tolist(), starts, ends[: len(there)], strict=True)]
