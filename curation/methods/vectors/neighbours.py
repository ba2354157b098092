"""Which of some vectors are alike, decided exactly (nearest.py beside this: float32, and float64 where its rounding may
decide), with memory for a few rows at once.

Vectors come in the order in which pairs survive, the best first. Two are alike when their cosine is over a bound; what
is said of them never takes a list of all that are, which may be as many as the square of their number.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curation.methods.kept_apart import GONE, HEARD, NONE, OPEN, STAYS, Alike, first_of
from curation.methods.vectors.clusters import units
from curation.methods.vectors.nearest import rounding

_ROWS = 512  # of a matrix of cosines at once
_FEW = 0.02  # of it that is decided one by one


class Side(NamedTuple):
    """Vectors of unit length, float32 [row, value] in multiples of 2^-24, their place in the order, int64 [row],
    rising, and whether the cluster is their own, bool [row]: two that only visit a cluster are not compared there."""

    vectors: np.ndarray
    place: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, place: np.ndarray, own: np.ndarray) -> "Side":
        return cls(units(vectors), place, own)

    def at(self, rows: np.ndarray | slice) -> "Side":
        return Side(self.vectors[rows], self.place[rows], self.own[rows])


def over(left: np.ndarray, right: np.ndarray, bound: float) -> np.ndarray:
    """bool [left, right]: whether the cosine of each two is over `bound`."""
    found = np.zeros((len(left), len(right)), bool)
    found.reshape(-1)[places_over(left, right, bound)] = True
    return found


def places_over(left: np.ndarray, right: np.ndarray, bound: float) -> np.ndarray:
    """The same as places in the flat matrix, rising: mostly few, so that nothing else goes through all of it."""
    slack = rounding(left.shape[1])
    products = (left @ right.T).reshape(-1)
    at = np.flatnonzero(products > bound - slack)
    unsure = np.flatnonzero(products[at] <= bound + slack)
    if len(unsure) > _FEW * len(products):
        return np.flatnonzero(left.astype(np.float64) @ right.astype(np.float64).T > bound)
    stays = np.ones(len(at), bool)
    for begin in range(0, len(unsure), _ROWS):
        some = unsure[begin : begin + _ROWS]
        row, column = np.divmod(at[some], len(right))
        stays[some] = np.einsum("ij,ij->i", left[row].astype(np.float64), right[column].astype(np.float64)) > bound
    return at[stays]


def alike(left: Side, right: Side, bound: float) -> Iterator[Alike]:
    """Whether the cosine of each two is over `bound`; nothing is alike to itself."""
    for at in range(0, len(left.place) if len(right.place) else 0, _ROWS):
        some = left.at(slice(at, at + _ROWS))
        near = over(some.vectors, right.vectors, bound)
        near &= some.own[:, None] | right.own[None]
        near &= some.place[:, None] != right.place[None]
        yield some.place, right.place, near


def first_kept(vectors: np.ndarray, bound: float) -> np.ndarray:
    """int64 [row]: the place of the one that takes each away, NONE where it stays: going through all in order, each
    that is still there takes away the later ones alike to it. They are held against those alone that stay.
    `vectors`: float32 [row, value]."""
    taken, kept = np.full(len(vectors), NONE), np.empty_like(vectors)
    places = np.zeros(0, np.int64)  # of those kept
    for at in range(0, len(vectors), _ROWS):
        some = vectors[at : at + _ROWS]
        mine = taken[at : at + _ROWS]
        if len(places):
            who, whom = np.divmod(places_over(some, kept[: len(places)], bound), len(places))
            who, begins = np.unique(who, return_index=True)
            mine[who] = places[whom[begins]]
        left = np.flatnonzero(mine == NONE)
        near = over(some[left], some[left], bound)
        np.fill_diagonal(near, False)
        for row in np.flatnonzero(near.any(axis=1)):  # of those alike to nothing none takes or goes
            if mine[left[row]] == NONE:
                later = left[row + 1 :][near[row, row + 1 :]]
                mine[later[mine[later] == NONE]] = at + left[row]
        stays = left[mine[left] == NONE]
        kept[len(places) : len(places) + len(stays)] = some[stays]
        places = np.concatenate([places, at + stays])
    return taken


def heard_alone(names: pa.Array, ranks: pa.Array, vectors: np.ndarray, bound: float) -> pa.Table:
    """HEARD of those of a cluster that are all here: who goes, and for whom; and who stays for others."""
    taken = first_kept(units(vectors), bound)
    gone = np.flatnonzero(taken != NONE)
    rows = np.concatenate([gone, np.unique(taken[gone])])
    kept = ranks.take(pa.array(taken[rows], mask=taken[rows] == NONE))
    columns = [names.take(pa.array(rows)), kept, pa.nulls(len(rows), pa.string()), np.zeros(len(rows), bool)]
    return pa.table(columns, schema=HEARD)


def heard(names: pa.Array, ranks: pa.Array, state: np.ndarray, met: list[tuple[Side, Side]], bound: float) -> pa.Table:
    """HEARD of those that there is something to tell (kept_apart.settled); `names`, `ranks`, `state` by place. Each two
    are multiplied once: who listens with those before it that may speak."""
    kept, open_, later = np.full(len(state), NONE), np.full(len(state), NONE), np.zeros(len(state), bool)
    for left, right in met:
        listening, speaking = left.at(state[left.place] != STAYS), right.at(state[right.place] != GONE)
        for at in range(0, len(listening.place), _ROWS):
            mine = listening.at(slice(at, at + _ROWS))
            theirs = speaking.at(slice(0, int(np.searchsorted(speaking.place, mine.place[-1]))))
            for places, others, near in alike(mine, theirs, bound):
                near &= others[None] < places[:, None]
                stays, waits = (state[others] == what for what in (STAYS, OPEN))
                for of, what in ((kept, stays), (open_, waits)):
                    of[places] = np.minimum(of[places], first_of(near & what[None], others))
                later[others[waits & near.any(axis=0)]] = True
    rows = np.flatnonzero((kept != NONE) | (open_ != NONE) | later)
    told = (ranks.take(pa.array(of[rows], mask=of[rows] == NONE)) for of in (kept, open_))
    return pa.table([names.take(pa.array(rows)), *told, later[rows]], schema=HEARD)


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
