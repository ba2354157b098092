"""Which of some vectors are alike, in exact arithmetic (clusters.py beside this), with memory for a few rows at once.

Vectors come in the order in which pairs survive, the best first. Two are alike when their cosine is over a bound; what
is said of them never takes a list of all that are, which may be as many as the square of their number.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from curation.methods.kept_apart import Alike
from curation.methods.vectors.clusters import unit_vectors

_ROWS = 512  # of a matrix of cosines at once


class Side(NamedTuple):
    """Vectors of unit length, float64 [row, value], their place in the order, int64 [row], rising, and whether the
    cluster is their own, bool [row]: two that only visit a cluster are not compared there."""

    vectors: np.ndarray
    place: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, place: np.ndarray, own: np.ndarray) -> "Side":
        return cls(unit_vectors(vectors), place, own)


def alike(left: Side, right: Side, bound: float) -> Iterator[Alike]:
    """Whether the cosine of each two is over `bound`; nothing is alike to itself."""
    for at in range(0, len(left.place) if len(right.place) else 0, _ROWS):
        rows = slice(at, at + _ROWS)
        near = left.vectors[rows] @ right.vectors.T > bound
        near &= left.own[rows, None] | right.own[None]
        near &= left.place[rows, None] != right.place[None]
        yield left.place[rows], right.place, near


def earliest(left: Side, right: Side, bound: float) -> np.ndarray:
    """int64 [link, 2]: places of `left` and of the first of `right` that is alike and earlier, where there is one."""
    links = [np.zeros((0, 2), np.int64)]
    for mine, theirs, near in alike(left, right, bound):
        near &= theirs[None] < mine[:, None]
        some = np.flatnonzero(near.any(axis=1))
        links.append(np.stack([mine[some], theirs[near[some].argmax(axis=1)]], axis=1))
    return np.concatenate(links)


def forest(left: Side, right: Side, bound: float, num: int) -> np.ndarray:
    """int64 [link, 2]: places (below `num`) of which those that hang together by likeness hang together by links: each
    with the first of all, so that there are fewer links than places."""
    links = np.zeros((0, 2), np.int64)
    for mine, theirs, near in alike(left, right, bound):
        row, column = np.nonzero(near)
        both = np.stack([mine[row], theirs[column]], axis=1)
        links = _stars(np.concatenate([links, both]), num)
    return links


def _stars(links: np.ndarray, num: int) -> np.ndarray:
    if not len(links):
        return links
    from scipy.sparse import coo_array  # not for those who only read settings
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(num, num))
    label = connected_components(graph, directed=False)[1]
    first = np.unique(label, return_index=True)[1][label]
    there = np.flatnonzero(first != np.arange(num))
    return np.stack([there, first[there]], axis=1)
