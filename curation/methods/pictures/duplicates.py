"""Groups of pairs that show the same picture: who survives, and what becomes of the captions of the others.

Used by the stages exact_duplicates and perceptual_duplicates. They say which pairs are alike; what is common is here:
the order in which pairs survive, finding the best of all that share a key, and handing the captions of removed copies
to the survivor where `shows_the_same` vouches for it. Nothing is gathered in one place: a pair is told its survivor, a
survivor is told its new captions.

A pair is named by its rank, a text that sorts the better the sooner and ends in the uid.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.stage import GROUP, Context, Group, Told, Verdicts
from curation.table import captions
from curation.table.arrow import whole
from curation.table.uids import DIGITS
from pipeline.draws import hashed_u64

Criterion = Literal["area", "num_captions", "longest_caption"]

SAME, SIZES, CAPTIONS = "same", "sizes", "captions"
_MOST = 2**62
BEST = pa.schema([("key", pa.string()), ("rank", pa.string()), ("size", pa.int64())])


class Duplicates(Group):
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
    after_first: ClassVar[tuple[str, ...]] = ("merge_captions", "max_captions", "drop_over")

    survivor: tuple[Criterion, ...] = ("area", "num_captions", "longest_caption")
    merge_captions: bool = True
    max_captions: int = Field(20, ge=1)
    drop_over: int | None = Field(None, ge=2)

    def ranks(self, pairs: pa.Table) -> pa.Array:
        """The rank of each pair."""
        uids = pairs.column("uid").to_pylist()
        if not self.survivor:
            return pa.array(uids, pa.string())
        values = np.stack([self.criterion(name, pairs) for name in self.survivor], axis=1)
        digits, width = (_MOST - values).astype(">u8").tobytes().hex(), 16 * len(self.survivor)
        return pa.array([digits[at * width : (at + 1) * width] + uid for at, uid in enumerate(uids)], pa.string())

    def criterion(self, name: str, pairs: pa.Table) -> np.ndarray:
        """What `survivor` calls by that name: int64 per pair, from 0 up to below 2^62, the greater the better."""
        return criterion_of(name, pairs)

    def survivors(self, pairs: pa.Table, told: Told) -> pa.Array:
        """The rank of the pair that stays for each, its own if it stays; null if it is not judged."""
        raise NotImplementedError

    def sizes(self, pairs: pa.Table, told: Told, survivors: pa.Array) -> pa.Array:
        """How many pairs have the survivor of each; null: one."""
        counted = told.of(SIZES, BEST)
        return counted.column("size").take(pc.index_in(survivors, whole(counted.column("key")))).combine_chunks()

    def size_notes(self, survivors: pa.Array) -> pa.Table:
        """One for each pair: how many there are of a survivor is told to all who have it."""
        known = pc.drop_null(survivors)
        return best_notes(known, known)

    def seen(self, pairs: pa.Table) -> Mapping[str, pa.ChunkedArray]:
        """What `shows_the_same` needs of each pair."""
        return {}

    def shows_the_same(self, copies: pa.Table, survivors: pa.Table) -> np.ndarray:
        """Whether what is said of each copy holds for the survivor in the same row too, bool. Asked of the two
        themselves: that both are alike to a third one says nothing."""
        return np.ones(copies.num_rows, bool)

    def caption_notes(self, pairs: pa.Table, told: Told) -> pa.Table:
        """A note of each pair in a group of several, to its survivor: the rank, what is seen of it, its captions."""
        survivors, ranks = self.survivors(pairs, told), self.ranks(pairs)
        several = pc.fill_null(pc.not_equal(survivors, ranks), False)
        heads = pc.fill_null(pc.and_(pc.equal(survivors, ranks), self.leads(pairs, told)), False)
        rows = pa.array(np.flatnonzero(pc.or_(several, heads).to_numpy(zero_copy_only=False)))
        names = pc.utf8_slice_codeunits(survivors.take(rows), -DIGITS)
        columns = {"uid": names, "survivor": survivors.take(rows), "rank": ranks.take(rows)}
        columns |= {name: whole(column).take(rows) for name, column in self.seen(pairs).items()}
        own = captions.column(pairs).take(rows)  # a survivor's are where they are needed already
        columns["captions"] = pc.if_else(several.take(rows), own, pa.scalar(None, own.type))
        return pa.table(columns).append_column(GROUP, pa.array(hashed_u64(names.to_pylist())))

    def leads(self, pairs: pa.Table, told: Told) -> pa.Array:
        """Whether each pair may have copies, if it stays: those that surely have none need not ask for captions."""
        return pa.array(np.ones(pairs.num_rows, bool))

    def hand_over(self, notes: pa.Table) -> pa.Table:
        """uid of each survivor | captions: those of its copies, by rank, each text once, at most max_captions."""
        notes = notes.sort_by([("survivor", "ascending"), ("rank", "ascending")])
        survivor, rank = whole(notes.column("survivor")), whole(notes.column("rank"))
        own = pc.index_in(survivor, value_set=rank)  # every survivor with a copy has a note of its own
        gives = self.shows_the_same(notes, notes.take(own)) & pc.not_equal(survivor, rank).to_numpy(False)
        given = notes.filter(pa.array(gives))
        heads = pc.unique(whole(given.column("uid")))
        owner = pc.index_in(whole(given.column("uid")), heads).to_numpy().astype(np.int64)
        flat, at = self._first_said(given, owner)
        flat = flat.set_column(0, captions.ROW, pa.array(owner[at]))
        return pa.table({"uid": heads, "captions": captions.implode(flat, len(heads))})

    def fewer(self, notes: pa.Table) -> pa.Table:
        """Notes that hand over the same where every copy gives: each text once a survivor, at most max_captions."""
        notes = notes.sort_by([("survivor", "ascending"), ("rank", "ascending")])
        owner = whole(notes.column("survivor")).dictionary_encode().indices.to_numpy().astype(np.int64)
        flat, at = self._first_said(notes, owner)
        flat = flat.set_column(0, captions.ROW, pa.array(at))
        notes = captions.replace(notes, captions.implode(flat, notes.num_rows))
        gives = pc.greater(pc.list_value_length(notes.column("captions")), 0)
        return notes.filter(pc.or_(gives, pc.equal(notes.column("survivor"), notes.column("rank"))))

    def _first_said(self, notes: pa.Table, owner: np.ndarray) -> tuple[pa.Table, np.ndarray]:
        """(captions of the notes, which are sorted by owner: each text once an owner, at most max_captions of them, the
        note that each is from)."""
        flat = captions.explode(notes)
        at = flat.column(captions.ROW).to_numpy()
        text = whole(flat.column("text")).dictionary_encode()
        code = owner[at] * max(len(text.dictionary), 1) + text.indices.to_numpy()
        first = np.sort(np.unique(code, return_index=True)[1])
        whose = owner[at[first]]
        first = first[np.arange(len(first)) - np.searchsorted(whose, whose) < self.max_captions]
        return flat.take(pa.array(first)), at[first]

    def judge(self, pairs: pa.Table, told: Told, ctx: Context) -> Verdicts:
        survivors = self.survivors(pairs, told)
        removed = pc.fill_null(pc.not_equal(survivors, self.ranks(pairs)), False)
        reason = pc.if_else(removed, pa.scalar("copy"), pa.scalar(None, pa.string()))
        if self.drop_over is not None:
            huge = pc.fill_null(pc.greater(self.sizes(pairs, told, survivors), self.drop_over), False)
            reason = pc.if_else(huge, pa.scalar("too_many_copies"), reason)
        uids = pc.utf8_slice_codeunits(survivors, -DIGITS)
        detail = pc.if_else(pc.is_valid(reason), uids, pa.scalar(None, pa.string()))
        if not self.merge_captions:
            return Verdicts(reason=reason, detail=detail)
        return Verdicts(reason=reason, detail=detail, captions=self._with_handed(pairs, told, reason))

    def _with_handed(self, pairs: pa.Table, told: Told, reason: pa.Array) -> pa.Array:
        """Each pair's captions and behind them those handed over, as far as there is room; it loses none of its own."""
        old = captions.column(pairs)
        handed = told.of(CAPTIONS, pa.schema([("uid", pa.string()), ("captions", old.type)]))
        uids = pairs.column("uid").filter(pc.is_null(reason))
        handed = handed.filter(pc.is_in(handed.column("uid"), uids.combine_chunks()))
        if not handed.num_rows:
            return old
        rows = pc.index_in(whole(handed.column("uid")), whole(pairs.column("uid"))).to_numpy()
        own, new = captions.explode(pairs), captions.explode(handed)
        row = np.concatenate([own.column(captions.ROW).to_numpy(), rows[new.column(captions.ROW).to_numpy()]])
        is_new = np.arange(len(row)) >= own.num_rows
        order = np.lexsort([is_new, row])  # stable: own captions first, each in its order
        flat = pa.concat_tables([own.drop_columns([captions.ROW]), new.drop_columns([captions.ROW])])
        flat, row, is_new = flat.take(pa.array(order)), row[order], is_new[order]
        text = whole(flat.column("text")).dictionary_encode()
        code = row * max(len(text.dictionary), 1) + text.indices.to_numpy()
        first = np.zeros(len(code), bool)
        first[np.unique(code, return_index=True)[1]] = True
        counts = ~is_new | first
        place = np.cumsum(counts) - 1
        place -= place[np.searchsorted(row, row)]  # the first of a pair counts: its own, or one that it lacks
        stays = ~is_new | (first & (place < self.max_captions))
        kept = flat.filter(pa.array(stays)).add_column(0, captions.ROW, pa.array(row[stays].astype(np.int64)))
        return captions.implode(kept, pairs.num_rows)


def best_notes(keys: pa.Array, ranks: pa.Array) -> pa.Table:
    """Notes of pairs by what they may share."""
    one = pa.array(np.ones(len(keys), np.int64))
    return pa.table({GROUP: pa.array(hashed_u64(keys.to_pylist())), "key": keys, "rank": ranks, "size": one})


def best_of(notes: pa.Table) -> pa.Table:
    """One note for each key: the best rank, and how many pairs have the key."""
    found = notes.group_by([GROUP, "key"]).aggregate([("rank", "min"), ("size", "sum")])
    return found.rename_columns([GROUP, "key", "rank", "size"])


def several(notes: pa.Table) -> pa.Table:
    found = best_of(notes)
    return found.filter(pc.greater(found.column("size"), 1))


def best_told(told: Told, keys: pa.Array) -> pa.Table:
    """rank and size of the best pair with each of `keys`; null where no other pair has the key."""
    best = told.of(SAME, BEST)
    return best.take(pc.index_in(keys, whole(best.column("key")))).combine_chunks()


def criterion_of(name: str, pairs: pa.Table) -> np.ndarray:
    """int64 per pair. Area is 0 where no stage has measured it."""
    if name == "num_captions":
        return captions.counts(pairs.column("captions"))
    if name == "longest_caption":
        flat = captions.explode(pairs)
        longest = np.zeros(pairs.num_rows, np.int64)
        np.maximum.at(longest, flat.column(captions.ROW).to_numpy(), pc.utf8_length(flat.column("text")).to_numpy())
        return longest
    if "width" not in pairs.column_names:
        return np.zeros(pairs.num_rows, np.int64)
    return pairs.column("width").to_numpy().astype(np.int64) * pairs.column("height").to_numpy()
