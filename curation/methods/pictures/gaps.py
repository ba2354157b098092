"""Which of those that a picture was held against are its copies: the ones before a gap.

Some pictures are like many others by degrees: stars of 20 to 99 rays, frames of a film, pages of a form. No bound
tells the copies of such a picture from its siblings; what does is that copies are by far the nearest.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.pictures.likeness import LINKS
from curation.table.arrow import whole

ONE = 1_000_000
"""Distances are whole numbers, so that no sum or quotient depends on where it is worked out."""
FAR = 1 << 31
APART = pa.schema([*LINKS, pa.field("apart", pa.int64()), pa.field("nearest", pa.bool_())])
_SURELY = 50_000  # closer than this nothing is told apart
_BETWEEN = 20  # one for so many copies may lie in the gap: an odd crop of a picture that has been copied often


class Crowd(NamedTuple):
    """uids: of pictures with more near ones than they were held against; many: of the nearest being like so many it is
    in a crowd. The nearest: both are to each other; besides them the best are held against (leaders.py beside this)."""

    uids: pa.Array
    many: int


def before_the_gap(apart: pa.Table, most: int, crowd: Crowd) -> pa.Table:
    """LINKS of the rows of APART that are copies as their `uid` sees it.

    The bound is the largest distance below `most` behind which, up to half as far again, there is nothing, or one for
    20 before it. Of a picture in a crowd, one that is like `crowd.many` or more of the nearest (within twice `most`),
    the next sibling may not have been seen, so it has no copies, unless it has been copied often: where all that it
    was held against are close, within half as far again as `most`, those within half of `most` are copies; and where
    the nearest are all that close, those before a gap.
    """
    apart = apart.sort_by([("uid", "ascending"), ("apart", "ascending"), ("near", "ascending")])
    uid, distance = whole(apart.column("uid")), apart.column("apart").to_numpy()
    if not len(uid):
        return LINKS.empty_table()
    owner = uid.dictionary_encode().indices.to_numpy().astype(np.int64)
    key = (owner << 32) + distance  # sorted
    start = np.searchsorted(owner, owner)

    def within(bound: np.ndarray | int) -> np.ndarray:
        """Of each row, how many of the same picture are no further than that."""
        return np.searchsorted(key, (owner << 32) + np.minimum(bound, FAR), side="right") - start

    reach = np.maximum(distance, _SURELY)
    before = within(reach)
    gap = (within(reach + reach // 2) - before) * _BETWEEN <= before
    nearest = apart.column("nearest").to_numpy()
    like = np.bincount(owner, nearest & (distance <= 2 * most))[owner]
    crowded = pc.is_in(uid, crowd.uids).to_numpy(zero_copy_only=False) & (like >= crowd.many)
    close = (np.bincount(owner, distance > most + most // 2) == 0)[owner]
    surely = (np.bincount(owner, nearest & (distance > most // 2)) == 0)[owner]
    often = (close & (distance <= most // 2)) | (surely & gap)
    ends = (distance < most) & np.where(crowded, often, gap)
    bound = np.full(owner[-1] + 1, -1)
    np.maximum.at(bound, owner[ends], distance[ends])
    return apart.filter(pa.array(distance <= bound[owner])).select(LINKS.names)
