"""The best of those near each picture: of one that was copied a thousand times no copy is held against all others, but
all are held against the same few, the ones that stay.

Letters: D = numbers of a sketch (24).
"""

import numpy as np

from curation.methods.pictures.sketches import apart

FEW = 8  # of the best near each picture; more than one, as it may not be a copy of the very best
_REACH = 64  # squared distance of sketches within which all are as near: what coding anew does to a picture
_ASKED = 2  # of the best of each of those few
_ROUNDS = 6  # in each of which twice as far away is looked at, at least


def leaders(sketch_RD: np.ndarray, pairs: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, a better one near it, int64 [pair, 2]; their squared distance, int32), at most FEW of each row.

    sketch: int8, the better row before the worse; pairs: (i < j) found near each other, with their squared distance.
    Of a crowd only some pairs are found, so each asks those it knows for the best that they know, some times.
    """
    near = distance <= _REACH
    known = np.stack([pairs[near, 1], pairs[near, 0]], axis=1)
    known = _few_of(known, FEW)
    for _ in range(_ROUNDS):
        start, stop = (np.searchsorted(known[:, 0], known[:, 1], side=side) for side in ("left", "right"))
        asked = [known]
        for at in range(_ASKED):
            has = start + at < stop
            asked.append(np.stack([known[has, 0], known[start[has] + at, 1]], axis=1))
        more = _few_of(np.concatenate(asked), FEW + _ASKED)
        grown = _few_of(more[apart(sketch_RD, more) <= _REACH], FEW)
        if np.array_equal(grown, known):
            break
        known = grown
    return known, apart(sketch_RD, known)


def _few_of(pairs: np.ndarray, few: int) -> np.ndarray:
    """The first `few` of each row, sorted, each once."""
    base = np.int64(pairs.max(initial=0) + 1)
    both = np.sort(pairs[:, 0] * base + pairs[:, 1])
    own, other = np.divmod(both[np.diff(both, prepend=-1) > 0], base)
    place = np.arange(len(own)) - np.searchsorted(own, own)
    return np.stack([own[place < few], other[place < few]], axis=1)
