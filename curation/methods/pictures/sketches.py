"""Which pictures may be one another, though cropped or framed: those whose sketches have a key in common.

The sketch of a picture is its 24 lowest frequencies, over the root of the energy of the 63 lowest: brightness and
contrast do not show in it. The first 16 make keys: each is cut into cells of which one lies around zero, so that a
symmetric picture, half of whose frequencies are nothing but noise, is hashed as well as any other; and where a number
lies near the edge of its cell, the next cell is tried too (multi-probe LSH; Lv et al., 2007). Sketches are made of the
whole and of two parts of it, since a picture is the more like the middle of another one the nearer their edges are.

All is done in whole numbers, so that a key is the same on every machine.

Letters: N = pictures, V = views (the whole and parts), R, C = rows and columns of pixels (32), H = frequencies a side
(8), D = numbers of a sketch (24), K = keys of a picture (48).
"""

import itertools

import numpy as np

from curation.images.phash import LOW, SIDE
from pipeline.draws import keyed_u64, mixed

NUMBERS = 24
_KEYED = 16  # numbers that make a key
CROPS = (0.0, 0.03, 0.06)  # cut off each side; a crop of 8% is as near to the last as 3% to the whole
_PROBED = 4  # numbers of which two cells are tried
NUM_KEYS = len(CROPS) << _PROBED
_SCALE = 1 << 16
_UNIT = 127
_CELL = 32  # of 127: what 5% off one side moves a number by is half of it, or less
_SHRUNK = 24  # bits: sums of 63 squares of what is left stay within 64 bits


def _cosines(crop: float) -> np.ndarray:
    """[H, C]: the cosines of what is left of a side, weighted where the edge cuts through a pixel."""
    start, stop = crop * SIDE, (1 - crop) * SIDE
    place = np.arange(SIDE)
    low, high = np.clip(place, start, stop), np.clip(place + 1, start, stop)
    middle = ((low + high) / 2 - start) / (stop - start)
    return np.round(np.cos(np.pi * np.arange(LOW)[:, None] * middle) * (high - low) * _SCALE)


_COSINES_VHC = np.stack([_cosines(crop) for crop in CROPS])
_LOWEST_FIRST = sorted(range(1, LOW * LOW), key=lambda at: (at // LOW + at % LOW, at % LOW))
_ODD_D = np.array([keyed_u64(0, "sketch", at) | 1 for at in range(_KEYED)], np.uint64)
_TRIED = np.array(list(itertools.product((0, 1), repeat=_PROBED)), np.uint64)


def sketches(grey_NRC: np.ndarray) -> np.ndarray:
    """int8 [N, V, D], 127 being all the energy of a picture."""
    found = [np.zeros((0, len(CROPS), NUMBERS), np.int8)]
    views = len(CROPS)
    for at in range(0, len(grey_NRC), 1024):
        grey = grey_NRC[at : at + 1024].astype(np.float64)
        num = len(grey)
        # Two large products in place of two small ones a view and picture. All sums are whole numbers below 2^53.
        right = (grey.reshape(num * SIDE, SIDE) @ _COSINES_VHC.reshape(-1, SIDE).T).reshape(num, SIDE, views, LOW)
        low = _COSINES_VHC @ right.transpose(2, 1, 0, 3).reshape(views, SIDE, num * LOW)
        low = low.reshape(views, LOW, num, LOW).transpose(2, 0, 1, 3).reshape(num, views, LOW * LOW)
        numbers = np.round(low[:, :, _LOWEST_FIRST] / 2**_SHRUNK).astype(np.int64)
        energy = np.sqrt((numbers * numbers).sum(axis=2, keepdims=True).astype(np.float64))
        found.append(np.round(numbers[:, :, :NUMBERS] * _UNIT / np.maximum(energy, 1)).astype(np.int8))
    return np.concatenate(found)


def sketch_keys(sketches_NVD: np.ndarray) -> np.ndarray:
    """uint64 [N, K], a view after the other."""
    shifted = sketches_NVD[:, :, :_KEYED].astype(np.int16) + np.int16(_CELL // 2)
    cell, within = np.divmod(shifted, np.int16(_CELL))
    to_edge = np.minimum(within, _CELL - 1 - within)
    probed = np.argsort(to_edge, axis=2, kind="stable")[:, :, :_PROBED]
    base = (cell.astype(np.uint64) * _ODD_D).sum(axis=2, dtype=np.uint64)
    other = np.where(np.take_along_axis(within, probed, axis=2) < _CELL // 2, -1, 1)
    moves = other.astype(np.uint64) * _ODD_D[probed]
    keys = base[:, :, None] + (moves[:, :, None] * _TRIED).sum(axis=3, dtype=np.uint64)
    return mixed(keys.reshape(-1)).reshape(len(sketches_NVD), NUM_KEYS)


_SMALL = 64  # pictures of a group of which each is held against all others
_ORDERS, _WINDOW = 8, 16  # in a larger one: orders that it is put in, pictures each is held against in each of them
_FINE = 16  # of 127: cells by which a large group is put in order, half as wide as those that made it


def near_sketches(group: np.ndarray, sketch: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(i < j of one group, int64 [pair, 2]; their squared distance, int32) of those no further apart than `most`.

    group: uint64, sorted; sketch: int8 [row, D]. All of a group that has at most 65 rows. A larger one is put in eight
    orders, and each held against the next 16: in the order of its cells of the numbers taken in turn, other cells and
    another turn each time, those stand side by side that have the most first cells in common, the more the denser the
    group is (LSH forest; Bawa et al., 2005). So a group of a million takes no more for each row than one of a hundred.
    """
    start = np.searchsorted(group, group)
    stop = np.searchsorted(group, group, side="right")
    crowded = np.flatnonzero(stop - start > _SMALL + 1)
    pairs = [_within_window(group, sketch, np.flatnonzero(stop - start <= _SMALL + 1), _SMALL, most)]
    for number in range(_ORDERS if len(crowded) else 0):
        order = np.lexsort((_cells_in_turn(sketch[crowded], number), group[crowded]))
        pairs.append(_within_window(group, sketch, crowded[order], _WINDOW, most))
    low, high = np.sort(np.concatenate(pairs), axis=1).T
    both = np.sort(low * len(group) + high)  # as one number: 10 x
    found = np.stack(np.divmod(both[np.diff(both, prepend=-1) > 0], max(len(group), 1)), axis=1)
    return found, apart(sketch, found)


def _cells_in_turn(sketch_RD: np.ndarray, number: int) -> np.ndarray:
    """uint64 [row]: the fine cells of 16 numbers, the first the most significant, of one of the orders."""
    draws = np.array([keyed_u64(0, "order", number, at) for at in range(2 * NUMBERS)], np.uint64)
    turn = np.argsort(draws[:NUMBERS], kind="stable")[:16]
    shift = (draws[NUMBERS:][turn] % np.uint64(_FINE)).astype(np.int64)
    cells = (sketch_RD[:, turn].astype(np.int64) + _UNIT + shift) // _FINE  # of four bits, but for the very last
    places = np.arange(60, -1, -4, dtype=np.uint64)
    return (np.minimum(cells, 15).astype(np.uint64) << places).sum(axis=1, dtype=np.uint64)


def _within_window(group: np.ndarray, sketch: np.ndarray, order: np.ndarray, window: int, most: int) -> np.ndarray:
    found = [np.zeros((0, 2), np.int64)]
    at = np.arange(max(len(order) - 1, 0))
    for away in range(1, window + 1):
        at = at[at + away < len(order)]
        at = at[group[order[at]] == group[order[at + away]]]
        if not len(at):
            break
        pairs = np.stack([order[at], order[at + away]], axis=1)
        found.append(pairs[apart(sketch, pairs) <= most])
    return np.concatenate(found)


def apart(sketch: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Squared distances, int32."""
    parts = [np.zeros(0, np.int32)]
    for at in range(0, len(pairs), 16_384):
        parts.append(squared_apart(*sketch[pairs[at : at + 16_384].T]))
    return np.concatenate(parts)


def squared_apart(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """int32 [row] of sketches int8 [row, D]."""
    apart = left.astype(np.int32)
    apart -= right
    return np.einsum("rd,rd->r", apart, apart)
