"""The exact k-th smallest of any number of pairs, from counts: a radix search for a stage of the sort Reduce.

Every pair has a key, 64 bits that rise with its value and its uid behind them (48 hex digits), so no two are equal. A
round counts the keys that begin as the one sought by their next four digits; when few are left they are gathered. What
meets in one place is at most 65,536 counts or _GATHERED keys, whatever the number of pairs.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table.arrow import whole

COUNTS = pa.schema([("key", pa.string()), ("count", pa.int64())])
_STEP, _VALUE = 4, 16  # digits of a round, of a value
_GATHERED = 50_000


class Search(NamedTuple):
    """prefix: how the key sought begins; rank: its place among those, from 1; gather: the keys themselves are wanted
    now; found: it is `prefix`, whole."""

    prefix: str = ""
    rank: int = 0
    gather: bool = False
    found: bool = False


def bits_of(values: np.ndarray) -> np.ndarray:
    """uint64 that are ordered as float64 values are; NaN behind all."""
    raw = np.where(np.isnan(values), np.nan, values + 0.0).astype(np.float64).view(np.uint64)  # -0.0 is 0.0
    return np.where(raw >> np.uint64(63) == 1, ~raw, raw | np.uint64(1 << 63))


def keys_of(bits: np.ndarray, uids: pa.Array) -> pa.Array:
    return pa.array([f"{bit:016x}{uid}" for bit, uid in zip(bits.tolist(), uids.to_pylist(), strict=True)], pa.string())


def counted(bits: np.ndarray, uids: pa.Array, search: Search) -> pa.Table:
    """COUNTS of one bucket."""
    begun = search.prefix[:_VALUE]
    low, high = (int(begun.ljust(_VALUE, digit), 16) for digit in "0f")
    inside = np.flatnonzero((bits >= np.uint64(low)) & (bits <= np.uint64(high)))
    if len(search.prefix) + _STEP <= _VALUE and not search.gather:  # without making texts of all
        shift = np.uint64(4 * (_VALUE - len(search.prefix) - _STEP))
        bins, count = np.unique(bits[inside] >> shift, return_counts=True)
        digits = len(search.prefix) + _STEP
        return pa.table([[f"{each:0{digits}x}" for each in bins.tolist()], count], schema=COUNTS)
    keys = keys_of(bits[inside], uids.take(pa.array(inside)))
    keys = keys.filter(pc.starts_with(keys, search.prefix))
    if not search.gather:
        keys = pc.utf8_slice_codeunits(keys, 0, len(search.prefix) + _STEP)
    found = pc.value_counts(keys)
    return pa.table([found.field("values"), found.field("counts")], schema=COUNTS)


def summed(tables: list[pa.Table]) -> pa.Table:
    whole_table = pa.concat_tables([COUNTS.empty_table(), *tables])
    found = whole_table.group_by("key", use_threads=False).aggregate([("count", "sum")]).sort_by("key")
    return pa.table([found["key"], found["count_sum"]], schema=COUNTS)


def narrowed(counts: pa.Table, search: Search) -> Search:
    """One round further. `counts`: of all pairs, at least `search.rank` of them."""
    counts = counts.sort_by("key")
    ends = np.cumsum(counts.column("count").to_numpy())
    at = int(np.searchsorted(ends, search.rank))
    prefix, inside = whole(counts.column("key"))[at].as_py(), int(counts.column("count")[at].as_py())
    if search.gather:
        return Search(prefix, search.rank, found=True)
    return Search(prefix, search.rank - int(ends[at]) + inside, gather=inside <= _GATHERED)


def rounds_for(pairs: int) -> int:
    """About how many it takes: of values spread over some powers of two one in 32 begins as the one sought, then one in
    65,536 of these each time; the last gathers."""
    number, left = 1, pairs // 32
    while left > _GATHERED:
        number, left = number + 1, left >> 4 * _STEP
    return number + 1


def value_of(key: str) -> float:
    """The value that a key begins with."""
    raw = int(key[:_VALUE], 16)
    raw = raw ^ (1 << 63) if raw >> 63 else ~raw & (2**64 - 1)
    return float(np.array([raw], np.uint64).view(np.float64)[0])
