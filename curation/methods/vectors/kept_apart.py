"""Greedy choice of vectors of which no two are alike, by rounds of notes between tasks: going through them in order,
each that is still there takes away the later ones alike to it. No list of all that are alike is made: a pair is told
the first of the earlier ones that stays, and the first of those not decided yet, and asks again while that matters.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.vectors.neighbours import NONE, Side, earliest, has_later
from curation.table.arrow import whole
from curation.table.uids import DIGITS

HEARD = pa.schema([("uid", pa.string()), ("kept", pa.string()), ("open", pa.string()), ("later", pa.bool_())])
"""uid | ranks of the first earlier ones alike to it that stay (`kept`) or may stay (`open`) | a later one listens."""


OPEN, STAYS, GONE = 0, 1, 2


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


def settled(ranks: pa.Array, state: np.ndarray, met: list[tuple[Side, Side]], bound: float) -> pa.Table:
    """HEARD of those of one tile that there is something to tell. `met`: which sides are compared, each both ways;
    `ranks` and `state` by place."""
    tables = []
    for left, right in met:
        asks = state[left.place] != STAYS
        left = Side(left.vectors[asks], left.place[asks], left.own[asks])
        other = state[right.place]
        kept = earliest(left, right, bound, other == STAYS)
        open_ = earliest(left, right, bound, other == OPEN)
        later = has_later(left, right, bound, other != STAYS)
        later &= state[left.place] == OPEN
        rows = np.flatnonzero((kept != NONE) | (open_ != NONE) | later)
        columns = [
            pc.utf8_slice_codeunits(ranks.take(pa.array(left.place[rows])), -DIGITS),
            *(ranks.take(pa.array(of[rows], mask=of[rows] == NONE)) for of in (kept, open_)),
            later[rows],
        ]
        tables.append(pa.table(columns, schema=HEARD))
    return pa.concat_tables(tables)
