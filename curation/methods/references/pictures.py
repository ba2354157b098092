"""The pictures of a reference set, and which of them another picture is: found by sketches, verified by registration,
as perceptual_duplicates does (methods/pictures/). So crops, frames and other brightness are seen.

Some pictures are like many others by degrees (stars of 20 to 99 rays): what tells copies from siblings is that copies
are by far the nearest (methods/pictures/gaps.py). Here that is asked of each item of the set, of all that a crawl has
like it, counted by steps of distance: so it takes a few numbers an item, however large the crawl.

Some 2 kB a picture. Nothing depends on which pictures are asked for together.

Letters: N = pictures asked for, M = pictures of the set, K = keys of a picture, V = its views.
"""

from typing import NamedTuple

import numpy as np

from curation.methods.lists.sets import ranges
from curation.methods.pictures.registration import Looks, apart
from curation.methods.pictures.sketches import NUM_KEYS, sketch_keys, sketches, squared_apart

_FARTHEST = 1600  # squared distance of sketches, as in perceptual_duplicates
_SURELY = 0.05  # closer than this nothing is told apart
_GAP = 7  # steps: half as far again
_BETWEEN = 20  # one for so many copies may lie in the gap
_EDGES = _SURELY * np.exp2(np.linspace(0, 8, 96, endpoint=False))  # twelve steps from one distance to twice of it


class Near(NamedTuple):
    """row (rising) and item of every two that were laid over each other, and what then differed: registration.Apart."""

    row: np.ndarray
    item: np.ndarray
    grey: np.ndarray
    colour: np.ndarray


def step_of(distance: np.ndarray) -> np.ndarray:
    """int64: 0 for what nothing tells apart, the larger the further; of FAR the largest."""
    return np.searchsorted(_EDGES, distance, side="left")


def last_step(step: np.ndarray, count: np.ndarray, most: float) -> int:
    """How far copies of one item go, of so many pictures at each step: the last step below the distance `most` behind
    which, up to half as far again, there is nothing, or one for 20 before it. At least 0."""
    before = np.bincount(step, count, len(_EDGES) + _GAP + 1).cumsum()
    at = np.arange(int(step_of(np.array([most]))[0]) + 1)
    ends = (before[at + _GAP] - before[at]) * _BETWEEN <= before[at]
    return int(at[ends & (before[at] > 0)].max(initial=0))


class PictureSet:
    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._sketches = sketches(looks.grey)
        keys, self._number = _by_key(self._sketches)
        order = np.argsort(keys, kind="stable")
        self._keys, self._number = keys[order], self._number[order]

    def __len__(self) -> int:
        return len(self._looks.grey)

    def near(self, looks: Looks, most_compared: int) -> Near:
        """Of each picture the `most_compared` of the set whose sketches are nearest, laid over it."""
        row, item = self._candidates(sketches(looks.grey), most_compared)
        found = apart(self._looks.take(item), looks.take(row))
        return Near(row, item, found.grey, found.colour)

    def _candidates(self, asked: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        keys, number = _by_key(asked)
        start, stop = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
        parts = [np.zeros((0, 3), np.int64)]
        for who, at in ranges(start, stop):
            mine, theirs = number[who], self._number[at]
            views = asked.shape[1]
            far = squared_apart(asked[mine // views, mine % views], self._sketches[theirs // views, theirs % views])
            close = far <= _FARTHEST
            parts.append(np.stack([mine // views, theirs // views, far], axis=1)[close].astype(np.int64))
        row, item, far = np.concatenate(parts).T
        order = np.lexsort((far, item, row))
        row, item, far = row[order], item[order], far[order]
        first = np.ones(len(row), bool)
        first[1:] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
        row, item, far = row[first], item[first], far[first]
        order = np.lexsort((item, far, row))
        row, item = row[order], item[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        return row[place < most], item[place < most]


def _by_key(sketched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(key, picture x V + view) of all keys of all pictures, each key of a picture once, with the first view to have
    it."""
    keys, views = sketch_keys(sketched), sketched.shape[1]
    picture = np.repeat(np.arange(len(keys)), NUM_KEYS)
    view = np.tile(np.arange(NUM_KEYS) * views // NUM_KEYS, len(keys))
    flat = keys.reshape(-1)
    order = np.lexsort((view, flat, picture))
    flat, picture, view = flat[order], picture[order], view[order]
    first = np.ones(len(flat), bool)
    first[1:] = (flat[1:] != flat[:-1]) | (picture[1:] != picture[:-1])
    return flat[first], (picture * views + view)[first]
