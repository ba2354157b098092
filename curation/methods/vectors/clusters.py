"""Vectors of unit length, and sums of them by cluster, in arithmetic that is exact: the same bits on any machine and in
any cut.

Vectors and centres have unit length and values that are multiples of 2^-24, which float32 holds whole. So products are
multiples of 2^-48, and what a sum of them comes to on its way is at most about 1 (Cauchy-Schwarz): float64 holds it
whole, in whatever order and shape a library or a GPU multiplies matrices. Sums of vectors are whole numbers of 2^-24:
2^39 of them fit into int64.
"""

import numpy as np
import pyarrow as pa

from curation.methods.vectors.stored import binary, from_binary
from curation.table.arrow import whole

_ONE = 2.0**24
_ROWS = 4096  # vectors at once, for memory
SUMS = pa.schema([("cluster", pa.int32()), ("count", pa.int64()), ("sums", pa.large_binary())])
"""cluster, rising | vectors of it | their sum: int64 of its width, in units of 2^-24."""


def unit_vectors(values: np.ndarray) -> np.ndarray:
    """float64 [row, value] of unit length, in multiples of 2^-24; a row of zeros stays."""
    values = np.ascontiguousarray(values, np.float64)
    norms = np.sqrt((values * values).sum(axis=1, keepdims=True)) if values.size else np.ones((len(values), 1))
    return np.rint(values / np.where(norms > 0, norms, 1.0) * _ONE) / _ONE


def units(values: np.ndarray) -> np.ndarray:
    """The same as float32, in which they are exact; a few rows at a time."""
    found = np.empty(values.shape, np.float32)
    for at in range(0, len(values), _ROWS):
        found[at : at + _ROWS] = unit_vectors(values[at : at + _ROWS])
    return found


def sums_of(units: np.ndarray, cluster: np.ndarray) -> pa.Table:
    """SUMS of those clusters that have a vector. `units`: float32 [row, value]; `cluster`: int [row]."""
    order = np.argsort(cluster, kind="stable")
    sorted_ = cluster[order]
    starts = np.flatnonzero(np.r_[True, sorted_[1:] != sorted_[:-1]]) if len(order) else np.zeros(0, np.int64)
    place = np.zeros(len(order), np.int64)  # of each, in the order of clusters that are there
    place[starts[1:]] = 1
    place = np.cumsum(place)
    sums = np.zeros((len(starts), units.shape[1]), np.int64)
    for at in range(0, len(order), _ROWS):
        some = (units[order[at : at + _ROWS]].astype(np.float64) * _ONE).astype(np.int64)
        mine = place[at : at + _ROWS]
        first = np.flatnonzero(np.r_[True, mine[1:] != mine[:-1]])
        sums[mine[first]] += np.add.reduceat(some, first, axis=0)
    return _table(sorted_[starts], np.diff(np.r_[starts, len(order)]), sums)


def summed(partials: list[pa.Table]) -> pa.Table:
    """Tables of SUMS as one, by cluster."""
    there = [each for each in partials if each.num_rows]
    if not there:
        return SUMS.empty_table()
    numbers = [each.column("cluster").to_numpy() for each in there]
    cluster = np.unique(np.concatenate(numbers))
    tables = [sums_in(each) for each in there]
    sums, count = np.zeros((len(cluster), tables[0].shape[1]), np.int64), np.zeros(len(cluster), np.int64)
    for number, table, each in zip(numbers, tables, there, strict=True):  # of one table each cluster is another
        at = np.searchsorted(cluster, number)
        sums[at] += table
        count[at] += each.column("count").to_numpy()
    return _table(cluster, count, sums)


def sums_in(table: pa.Table) -> np.ndarray:
    """int64 [cluster, value]."""
    return from_binary(table.column("sums"), np.dtype("<i8"))


def moved(sums: pa.Table, centres: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [centre, value], vectors of each, int64): the mean direction of each cluster; one without vectors, or
    whose vectors add up to nothing, keeps its centre. `first`: number of the first of `centres`."""
    found, count = np.array(centres, np.float32), np.zeros(len(centres), np.int64)
    if sums.num_rows:
        at, values = whole(sums.column("cluster")).to_numpy() - first, sums_in(sums)
        some = np.abs(values).max(axis=1) > 0
        found[at[some]] = units(values[some])
        count[at] = whole(sums.column("count")).to_numpy()
    return found, count


def _table(cluster: np.ndarray, count: np.ndarray, sums: np.ndarray) -> pa.Table:
    return pa.table([cluster.astype(np.int32), count, binary(sums)], schema=SUMS)


def spread_by_size(sizes: np.ndarray, number: int = 12) -> list[int]:
    """Which clusters to look at: the largest, the smallest that has a pair, and some between, evenly by rank."""
    order = np.lexsort([np.arange(len(sizes)), -sizes])[: int((sizes > 0).sum())]
    places: np.ndarray = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return [int(order[at]) for at in np.unique(places)]
