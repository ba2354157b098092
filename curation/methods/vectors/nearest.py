"""Vectors and the centres nearest to them, of any number of centres: block by block with a running best, exactly.

On a CPU the products are made in float32, twice as fast, and what its rounding leaves in doubt is decided in float64,
which holds them whole (clusters.py beside this). A GPU multiplies in float64 at once. Both find the same.
"""

from collections.abc import Callable, Iterator

import numpy as np

Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]
"""Centres in blocks: number of the first, float32 [centre, value] in multiples of 2^-24. Called for each pass."""
_ROWS, _CENTRES = 2048, 1024  # of a matrix of products at once
_ON_GPU = 16_384
_NONE = np.iinfo(np.int64).max


def blocks_of(centres: np.ndarray, first: int = 0) -> Blocks:
    """Those of one matrix."""
    return lambda: ((first + at, centres[at : at + _CENTRES]) for at in range(0, len(centres), _CENTRES))


def assigned(units: np.ndarray, blocks: Blocks, on_gpu: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(number of the nearest centre of each, of equal ones the first: int64; their cosine, float64); -1 and 0 where
    there is no centre. `units`: float32 [row, value]."""
    if on_gpu:
        return by_torch(units, blocks, "cuda")
    number, doubtful = _by_float32(units, blocks)
    cosine = np.zeros(len(units))
    unsure = np.flatnonzero(doubtful)
    number[unsure], best = -1, np.full(len(unsure), -np.inf)
    for first, centres in blocks():
        exact = centres.astype(np.float64)
        for at in range(0, len(unsure), _ROWS):
            rows = unsure[at : at + _ROWS]
            _keep_better(units[rows].astype(np.float64) @ exact.T, first, rows, number, best[at : at + _ROWS])
        sure = np.flatnonzero(~doubtful & (number >= first) & (number < first + len(centres)))
        for at in range(0, len(sure), _ROWS):
            rows = sure[at : at + _ROWS]
            cosine[rows] = np.einsum("ij,ij->i", units[rows].astype(np.float64), exact[number[rows] - first])
    cosine[unsure] = np.where(number[unsure] >= 0, best, 0.0)
    return number, cosine


def _keep_better(products: np.ndarray, first: int, rows: np.ndarray, number: np.ndarray, best: np.ndarray) -> None:
    at = products.argmax(axis=1)
    values = products[np.arange(len(at)), at]
    better = values > best
    best[better], number[rows[better]] = values[better], at[better] + first


def _by_float32(units: np.ndarray, blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """(number of the centre with the greatest product, int64; bool: whether another one may be as near)."""
    number, best, second = np.full(len(units), -1), *(np.full(len(units), -np.inf, np.float32) for _ in "ab")
    room = np.empty(0, np.float32)  # for products, taken once
    for first, centres in blocks():
        for at in range(0, len(units), _ROWS):
            rows = slice(at, at + _ROWS)
            size = len(number[rows]) * len(centres)
            room = room if len(room) >= size else np.empty(size, np.float32)
            products = np.matmul(units[rows], centres.T, out=room[:size].reshape(-1, len(centres)))
            place, row = products.argmax(axis=1), np.arange(len(products))
            values = products[row, place]
            products[row, place] = -np.inf
            following = products.max(axis=1)
            better = values > best[rows]
            second[rows] = np.where(better, np.maximum(best[rows], following), np.maximum(second[rows], values))
            number[rows] = np.where(better, place + first, number[rows])
            best[rows] = np.maximum(best[rows], values)
    with np.errstate(invalid="ignore"):  # of no centres at all
        return number, ~(best - second > 2 * rounding(units.shape[1]))


def rounding(width: int) -> float:
    """How far a product of two of unit length may be off in float32, in whatever order it is summed (Higham, 2002,
    chapter 3: n u |x| |y|), and a little more."""
    return width * 2.0**-24 * 1.01 + 2.0**-22


def by_torch(units: np.ndarray, blocks: Blocks, device: str) -> tuple[np.ndarray, np.ndarray]:
    """As `assigned`, on a device of torch."""
    import torch  # not for those who only read settings, nor for a CPU

    number = torch.full((len(units),), -1, dtype=torch.int64, device=device)
    best = torch.full((len(units),), -torch.inf, dtype=torch.float64, device=device)
    there = torch.from_numpy(np.ascontiguousarray(units)).to(device)
    for first, centres in blocks():
        exact = torch.from_numpy(centres.astype(np.float64)).to(device)
        places = torch.arange(len(centres), device=device)
        for at in range(0, len(units), _ON_GPU):
            rows = slice(at, at + _ON_GPU)
            products = there[rows].double() @ exact.T
            values = products.amax(dim=1)
            place = torch.where(products == values[:, None], places, len(centres)).amin(
                dim=1
            )  # the first of equal ones
            better = values > best[rows]
            number[rows] = torch.where(better, place + first, number[rows])
            best[rows] = torch.maximum(best[rows], values)
    found = number.cpu().numpy()
    return found, np.where(found >= 0, best.cpu().numpy(), 0.0)


class Nearest:
    """Of each of some vectors the `most` centres with the greatest cosine so far, of equal ones the first first."""

    def __init__(self, rows: int, most: int) -> None:
        self.numbers = np.full((rows, most), _NONE)
        self._cosines = np.full((rows, most), -np.inf)

    def see(self, rows: np.ndarray, cosines: np.ndarray, numbers: np.ndarray) -> None:
        """float64 [row, centre] of the vectors `rows`, with centres of these numbers."""
        most = self.numbers.shape[1]
        values = np.concatenate([self._cosines[rows], cosines], axis=1)
        last = np.partition(values, values.shape[1] - most, axis=1)[:, -most]
        row, at = np.nonzero(values >= last[:, None])
        both = np.concatenate([np.zeros(most, np.int64), numbers])[at]
        known = at < most
        both[known] = self.numbers[rows[row[known]], at[known]]
        order = np.lexsort([both, -values[row, at], row])
        row, at, both = row[order], at[order], both[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        stays = place < most
        self.numbers[rows[row[stays]], place[stays]] = both[stays]
        self._cosines[rows[row[stays]], place[stays]] = values[row[stays], at[stays]]

    def of(self, row: int) -> np.ndarray:
        return self.numbers[row][self.numbers[row] != _NONE]


def nearest(units: np.ndarray, blocks: Blocks, most: int) -> np.ndarray:
    """int64 [row, place]: the `most` centres with the greatest cosine, of equal ones the first first; where there are
    fewer, the number of centres behind them."""
    found, total = Nearest(len(units), most), 0
    for first, centres in blocks():
        exact = centres.astype(np.float64)
        for at in range(0, len(units), _ROWS):
            rows = np.arange(at, min(at + _ROWS, len(units)))
            found.see(rows, units[rows].astype(np.float64) @ exact.T, first + np.arange(len(centres)))
        total = first + len(centres)
    return np.where(found.numbers == _NONE, total, found.numbers)


def gpu_of(gpus: float) -> bool:
    """Whether a task that was given so many GPUs finds one here."""
    if not gpus:
        return False
    import torch

    return torch.cuda.is_available()
