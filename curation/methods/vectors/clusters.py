"""Vectors and the centres nearest to them, in arithmetic that is exact: the same bits on any machine and in any cut.

Vectors and centres have unit length and values that are multiples of 2^-24. So products are multiples of 2^-48, and
what a sum of them comes to on its way is at most about 1 (Cauchy-Schwarz): float64 holds it whole, in whatever order
and shape a library multiplies matrices. Sums of vectors are whole numbers of 2^-24: 2^39 of them fit into int64.
"""

import numpy as np
import pyarrow as pa

from curation.table.arrow import whole

_ONE = 2.0**24
_ROWS = 4096  # vectors at once, for memory


def unit_vectors(values: np.ndarray) -> np.ndarray:
    """float64 [row, value] of unit length, in multiples of 2^-24; a row of zeros stays."""
    values = np.ascontiguousarray(values, np.float64)
    norms = np.sqrt((values * values).sum(axis=1, keepdims=True)) if values.size else np.ones((len(values), 1))
    return np.rint(values / np.where(norms > 0, norms, 1.0) * _ONE) / _ONE


def assigned(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(centre of each vector, int32; their cosine, float64)."""
    number, cosine = np.zeros(len(vectors), np.int32), np.zeros(len(vectors))
    for at in range(0, len(vectors), _ROWS):
        likeness = unit_vectors(vectors[at : at + _ROWS]) @ centres.T
        best = likeness.argmax(axis=1)
        number[at : at + _ROWS], cosine[at : at + _ROWS] = best, likeness[np.arange(len(best)), best]
    return number, cosine


def nearest(vectors: np.ndarray, centres: np.ndarray, number: int) -> np.ndarray:
    """int32 [vector, place]: the `number` of centres with the greatest cosine, of equal ones the first first."""
    number = min(number, len(centres))
    found = np.zeros((len(vectors), number), np.int32)
    for at in range(0, len(vectors), _ROWS):
        likeness = -(unit_vectors(vectors[at : at + _ROWS]) @ centres.T)
        last = np.partition(likeness, number - 1, axis=1)[:, number - 1 : number] if number else likeness
        for row, each in enumerate(likeness):
            there = np.flatnonzero(each <= last[row]) if number else np.zeros(0, np.int64)
            found[at + row] = there[np.argsort(each[there], kind="stable")][:number]
    return found


def nearest_sums(vectors: np.ndarray, centres: np.ndarray) -> pa.Table:
    """cluster | count | sums (list of int64, in units of 2^-24) of the clusters that have a vector."""
    return centre_sums(vectors, assigned(vectors, centres)[0])


def centre_sums(vectors: np.ndarray, number: np.ndarray) -> pa.Table:
    """The same, of the clusters that the vectors are in by `number`."""
    there, count = np.unique(number, return_counts=True)
    sums = np.zeros((len(there), vectors.shape[1]), np.int64)
    for at in range(0, len(vectors), _ROWS):
        some = (unit_vectors(vectors[at : at + _ROWS]) * _ONE).astype(np.int64)
        np.add.at(sums, np.searchsorted(there, number[at : at + _ROWS]), some)
    return _table(there, count, sums)


def summed(partials: list[pa.Table]) -> pa.Table:
    """Partials of `nearest_sums` as one, by cluster."""
    cluster = np.concatenate([each.column("cluster").to_numpy() for each in partials])
    there, at = np.unique(cluster, return_inverse=True)
    width = max((len(each.column("sums")[0]) for each in partials if each.num_rows), default=0)
    sums, count = np.zeros((len(there), width), np.int64), np.zeros(len(there), np.int64)
    np.add.at(count, at, np.concatenate([each.column("count").to_numpy() for each in partials]))
    flat = [whole(each.column("sums")).flatten().to_numpy().reshape(each.num_rows, -1) for each in partials if each]
    if len(cluster):
        np.add.at(sums, at, np.concatenate([each for each in flat if each.size]))
    return _table(there, count, sums)


def _table(cluster: np.ndarray, count: np.ndarray, sums: np.ndarray) -> pa.Table:
    offsets = np.arange(len(cluster) + 1) * sums.shape[1]
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(sums.reshape(-1), pa.int64()))
    kinds = {"cluster": pa.int32(), "count": pa.int64(), "sums": pa.list_(pa.int64())}
    return pa.table([cluster, count, lists], schema=pa.schema(kinds))


def spread_by_size(sizes: np.ndarray, number: int = 12) -> list[int]:
    """Which clusters to look at: the largest, the smallest that has a pair, and some between, evenly by rank."""
    order = np.lexsort([np.arange(len(sizes)), -sizes])[: int((sizes > 0).sum())]
    places: np.ndarray = np.linspace(0, len(order) - 1, min(number, len(order))).round().astype(int)
    return [int(order[at]) for at in np.unique(places)]
