"""Groups of pairs that show the same picture: who survives, and what becomes of the captions of the others.

Used by the stages exact_duplicates and perceptual_duplicates. They say which pairs are alike (`settle`); from there on
all is common: groups are the connected components of "alike", or each removed pair is alike to its own survivor; one
survivor a group by a stated order; captions of removed copies go to the survivor where `shows_the_same` vouches for it.

Members: the table between settle and fold, a row per pair that is like another one:
    uid | the rank columns | what shows_the_same needs | same: uid of the pair it is identical to, or null | links: uids
    it is alike to | captions?
"""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.stage import Global, Verdicts
from curation.table import captions
from curation.table.arrow import whole

Criterion = Literal["area", "num_captions", "longest_caption"]


class Duplicates(Global):
    """What both duplicate stages let a recipe say.

    survivor        who stays, by the first criterion that differs, the greater the better: area (width x height),
                    num_captions, longest_caption (in characters); at last the smaller uid
    merge_captions  append the captions of the removed to those of the survivor, in order of rank, equal texts once;
                    those of pairs that are alike but not surely the same picture go with their pair
    max_captions    a survivor takes over captions only up to this many in all
    drop_over       a group of more pairs than this is dropped whole (an "image removed" placeholder on a thousand urls)

    Reasons: copy (detail: the survivor's uid), too_many_copies.
    """

    detail_is_survivor: ClassVar[bool] = True

    survivor: tuple[Criterion, ...] = ("area", "num_captions", "longest_caption")
    merge_captions: bool = True
    max_captions: int = Field(20, ge=1)
    drop_over: int | None = Field(None, ge=2)

    def fold(self, settled: pa.Table) -> pa.Table:
        members, same, links = graph(settled)
        return self.elect(members, components(np.concatenate([same, links]), members.num_rows))

    def elect(self, members: pa.Table, group: np.ndarray) -> pa.Table:
        """From members (a row per uid) and their group numbers: uid, survivor, size of the group, and captions, which
        hold the merged list in the survivor's row."""
        order = self.ranked(members)
        head = np.full(group.max(initial=-1) + 1, -1)
        head[group[order[::-1]]] = order[::-1]  # the last write is the best of the group
        survivor = head[group]
        size = np.bincount(group, minlength=len(head))[group]
        uids = whole(members.column("uid"))
        folded = pa.table({"uid": uids, "survivor": uids.take(pa.array(survivor)), "size": size})
        if "captions" in members.column_names:
            gives = self.shows_the_same(members, survivor) | (survivor == np.arange(len(survivor)))
            folded = folded.append_column("captions", self._merged(members, order[gives[order]], survivor))
        return folded

    def shows_the_same(self, members: pa.Table, survivor: np.ndarray) -> np.ndarray:
        """Whether what is said of each member holds for the member at row survivor[i] too, bool. Asked of the two
        themselves: that both are alike to a third one says nothing."""
        return np.ones(len(survivor), bool)

    def ranked(self, members: pa.Table) -> np.ndarray:
        """Row numbers, best first."""
        keys = [(criterion, "descending") for criterion in self.survivor]
        return pc.sort_indices(members, [*keys, ("uid", "ascending")]).to_numpy()

    def judge(self, pairs: pa.Table, folded: pa.Table, seed: int) -> Verdicts:
        at = pc.index_in(whole(pairs.column("uid")), value_set=whole(folded.column("uid")))
        own = folded.drop_columns([n for n in ("captions",) if n in folded.column_names]).take(at)
        removed = pc.fill_null(pc.not_equal(own.column("survivor"), own.column("uid")), False)
        reason = pc.if_else(removed, pa.scalar("copy"), pa.scalar(None, pa.string()))
        if self.drop_over is not None:
            huge = pc.fill_null(pc.greater(own.column("size"), self.drop_over), False)
            reason = pc.if_else(huge, pa.scalar("too_many_copies"), reason)
        detail = pc.if_else(pc.is_valid(reason), own.column("survivor"), pa.scalar(None, pa.string()))
        if "captions" not in folded.column_names or not folded.num_rows:
            return Verdicts(reason=reason, detail=detail)
        return Verdicts(reason=reason, detail=detail, captions=_with_merged(pairs, folded, at, reason))

    def _merged(self, members: pa.Table, order: np.ndarray, survivor: np.ndarray) -> pa.Array:
        """The captions of the members at rows `order`, at the rows of their survivors."""
        # Captions in the order they should stand: group by group, the survivor's own first, then by rank.
        standing = order[np.argsort(survivor[order], kind="stable")]
        flat = captions.explode(members.select(["captions"]).take(pa.array(standing)))
        owner = survivor[standing][flat.column(captions.ROW).to_numpy()]
        text = whole(flat.column("text")).dictionary_encode()
        code = owner * max(len(text.dictionary), 1) + text.indices.to_numpy()
        own = standing[flat.column(captions.ROW).to_numpy()] == owner
        first = np.zeros(len(code), bool)
        first[np.unique(code, return_index=True)[1]] = True
        first |= own  # a survivor never loses a caption of its own
        flat, owner, own = flat.filter(pa.array(first)), owner[first], own[first]
        place = np.arange(len(owner)) - np.searchsorted(owner, owner)
        kept = own | (place < self.max_captions)
        flat = flat.filter(pa.array(kept)).set_column(0, captions.ROW, pa.array(owner[kept]))
        return captions.implode(flat, members.num_rows)


def rank_columns(pairs: pa.Table, with_captions: bool) -> pa.Table:
    """uid, the rank columns and, if asked for, captions of each pair. Area is 0 where no stage has measured it."""
    flat = captions.explode(pairs)
    longest = np.zeros(pairs.num_rows, np.int64)
    np.maximum.at(longest, flat.column(captions.ROW).to_numpy(), pc.utf8_length(flat.column("text")).to_numpy())
    area = np.zeros(pairs.num_rows, np.int64)
    if "width" in pairs.column_names:
        area = pairs.column("width").to_numpy().astype(np.int64) * pairs.column("height").to_numpy()
    counts = captions.counts(pairs.column("captions"))
    ranks = {"uid": pairs.column("uid"), "area": area, "num_captions": counts, "longest_caption": longest}
    return pa.table(ranks | ({"captions": pairs.column("captions")} if with_captions else {}))


def member_rows(ranks: pa.Table, at: np.ndarray, same: np.ndarray, links: list[list[str]] | None = None) -> pa.Table:
    """Rows `at` of a rank table as members; `same` holds a row number or -1, `links` the uids each is alike to."""
    uids = whole(ranks.column("uid"))
    members = ranks.take(pa.array(at))
    members = members.append_column("same", uids.take(pa.array(same, mask=same < 0)))
    linked = pa.array(links if links is not None else [[]] * len(at), pa.list_(pa.string()))
    return members.append_column("links", linked)


def graph(settled: pa.Table) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Settled rows as members (one row per uid, sorted), and the edges that `same` and `links` draw between their row
    numbers, each int64 [edge, 2] from the member that names to the one named."""
    uids = whole(settled.column("uid"))
    known, first = np.unique(uids.to_numpy(zero_copy_only=False).astype(str), return_index=True)
    members = settled.take(pa.array(first, pa.int64())).drop_columns(["same", "links"])
    names = pa.array(known.tolist(), pa.string())
    own = _row_of(uids, names)
    links = whole(settled.column("links"))
    same = np.stack([own, _row_of(whole(settled.column("same")), names)], axis=1)
    linked = np.stack([own[pc.list_parent_indices(links).to_numpy()], _row_of(links.flatten(), names)], axis=1)
    return members, _plain_edges(same), _plain_edges(linked)


def _row_of(uids: pa.Array, names: pa.Array) -> np.ndarray:
    """Place of each uid in `names`, int64; -1 for null."""
    found = pc.index_in(uids, value_set=names, skip_nulls=True)
    return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _plain_edges(edges: np.ndarray) -> np.ndarray:
    edges = np.unique(edges, axis=0)
    return edges[(edges[:, 1] >= 0) & (edges[:, 0] != edges[:, 1])]


def components(edges: np.ndarray, num: int) -> np.ndarray:
    """Group number of each of `num` nodes under the edges [edge, 2]."""
    from scipy.sparse import coo_array  # half a second, which settings must not cost
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(edges), np.int8)
    joined = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(num, num))
    return connected_components(joined, directed=False)[1].astype(np.int64)


def _with_merged(pairs: pa.Table, folded: pa.Table, at: pa.Array, reason: pa.Array) -> pa.Array:
    """Each pair's captions, the merged list for survivors."""
    old = captions.column(pairs)
    new = whole(folded.column("captions")).cast(old.type)
    uid = whole(pairs.column("uid"))
    survives = pc.fill_null(pc.equal(whole(folded.column("survivor")).take(at), uid), False)
    takes = pc.and_(survives, pc.is_null(reason))
    index = pc.if_else(takes, pc.add(pc.cast(at, pa.int64()), len(old)), pa.array(np.arange(len(old))))
    return pa.concat_arrays([old, new]).take(index)
