"""Greedy choice of things of which no two are alike, by rounds of notes between tasks: going through them in order,
each that is still there takes away the later ones alike to it. No list of all that are alike is made: a pair is told
the first of the earlier ones that stays, and the first of those not decided yet, and asks again while that matters.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table.arrow import whole

HEARD = pa.schema([("uid", pa.string()), ("kept", pa.string()), ("open", pa.string()), ("later", pa.bool_())])
"""uid, or what else names it | ranks of the first earlier ones alike to it that stay (`kept`) or are not decided yet
(`open`) | whether a later one listens."""


OPEN, STAYS, GONE = 0, 1, 2
NONE = np.iinfo(np.int64).max
Alike = tuple[np.ndarray, np.ndarray, np.ndarray]
"""int64 [row], int64 [column], rising: places in the order | bool [row, column]: whether they are alike."""


class Heard(NamedTuple):
    """What all rounds have told the pairs of one bucket.

    asks      bool [pair]: it has something to ask or to say in the next round
    state     int8 [pair]: of OPEN, STAYS, GONE
    survivor  rank of the one that each goes for; null where it stays or is not decided
    """

    asks: np.ndarray
    state: np.ndarray
    survivor: pa.Array

    @classmethod
    def of(cls, uids: pa.Array, rounds: list[pa.Table]) -> "Heard":
        kept = pa.nulls(len(uids), pa.string())
        if not rounds:
            return cls(np.ones(len(uids), bool), np.full(len(uids), OPEN, np.int8), kept)
        for each in rounds:
            last = _by_pair(each, uids)
            kept = pc.min_element_wise(kept, whole(last.column("kept")))
        waits = whole(last.column("open"))  # what was open in an earlier round may have gone
        gone, open_ = pc.is_valid(kept), pc.and_(pc.is_null(kept), pc.is_valid(waits))
        # Who has gone still listens for one that stays and is better than the one it goes for.
        listens = pc.or_(open_, pc.fill_null(pc.less(waits, kept), False))
        says = pc.and_(pc.invert(pc.or_(gone, open_)), pc.fill_null(whole(last.column("later")), False))
        asks = pc.or_(listens, says).to_numpy(zero_copy_only=False)
        state = pc.if_else(gone, GONE, pc.if_else(open_, OPEN, STAYS))
        return cls(asks, state.to_numpy(zero_copy_only=False).astype(np.int8), kept)


def _by_pair(told: pa.Table, uids: pa.Array) -> pa.Table:
    """What all tiles have told each of `uids` in one round."""
    found = told.group_by("uid").aggregate([("kept", "min"), ("open", "min"), ("later", "max")])
    found = found.rename_columns(HEARD.names)
    return found.take(pc.index_in(uids, whole(found.column("uid"))))


def settled(names: pa.Array, ranks: pa.Array, state: np.ndarray, near: Iterable[Alike]) -> pa.Table:
    """HEARD of those that there is something to tell. `names`, `ranks` and `state` by place; `near`: who is alike."""
    tables = []
    for mine, theirs, alike in near:
        earlier = alike & (theirs[None] < mine[:, None])
        kept, open_ = (first_of(earlier & (state[theirs] == what)[None], theirs) for what in (STAYS, OPEN))
        later = (alike & ~earlier & (state[theirs] != STAYS)[None]).any(axis=1) & (state[mine] == OPEN)
        rows = np.flatnonzero((state[mine] != STAYS) & ((kept != NONE) | (open_ != NONE) | later))
        columns = [
            names.take(pa.array(mine[rows])),
            *(ranks.take(pa.array(of[rows], mask=of[rows] == NONE)) for of in (kept, open_)),
            later[rows],
        ]
        tables.append(pa.table(columns, schema=HEARD))
    return pa.concat_tables([HEARD.empty_table(), *tables])


def first_of(which: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The first of the rising `places` that each row has, NONE where it has none."""
    return np.where(which.any(axis=1), places[which.argmax(axis=1)] if len(places) else NONE, NONE)
