"""Keeps one of several pairs whose images are the same picture: re-encoded, resized, cropped, framed, brightened."""

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.pictures.candidates import NEAR, NEAREST, looks_of, near_ones, nearest, sketched
from curation.methods.pictures.duplicates import (
    BEST,
    CAPTIONS,
    SAME,
    SIZES,
    Duplicates,
    best_notes,
    best_of,
    best_told,
    several,
)
from curation.methods.pictures.gaps import APART, FAR, ONE, Crowd, before_the_gap
from curation.methods.pictures.likeness import (
    LINKS,
    SAID,
    Neighbours,
    answers,
    between,
    component_heads,
    decisions,
    introductions,
    near_survivors,
)
from curation.methods.pictures.registration import apart
from curation.methods.pictures.sketches import NUM_KEYS
from curation.stage import Context, Told
from curation.table.arrow import whole
from curation.table.uids import DIGITS

COMPARE, LOOK, AGREE, DECIDE, COPIES = "compare", "look", "agree", "decide", "copies"
_SEEN = ("grey", "tiny_rgb", "width", "height")  # what a comparison of two pictures needs
_CROWD = 8  # a picture is in a crowd that is like one in so many of those it is held against


class PerceptualDuplicates(Duplicates):
    """Two images are copies when one can be laid over the other, by scale and shift of each axis and by brightness and
    contrast, so that they differ nowhere: by less than `max_difference` standard deviations of the picture in the place
    of 32 x 32 grey levels where they differ most, and by less than `max_colour_difference` levels of red or blue
    against green in the place of 8 x 8 colours. So siblings stay: a star with a ray more, another card, another letter
    that can be seen at this size. Up to a tenth may be cut off each side, or put round it.

    Held against each other are pairs of images whose sketches are near (methods/pictures/sketches.py), of each image
    the `most_compared` nearest, and the best of those that look like it coded anew (methods/pictures/leaders.py).

    grouping     near_survivor: going through the pairs from the best down, each takes away its copies, so that none is
                 removed for the sake of one it was not held against. components: all that hang together by being
                 copies are one group
    min_contrast images flatter than this (standard deviation of grey levels) are left alone: all that is in them is
                 noise
    """

    kind: Literal["perceptual_duplicates"] = "perceptual_duplicates"
    reads: ClassVar[tuple[str, ...]] = ("contrast", *_SEEN, "captions.text")
    # 2: found by sketches, verified by registration; 3: by its inverse form; 4: found in crowds; 5: held to the best;
    # 6: those who agree are told so
    version: ClassVar[int] = 6

    max_difference: float = Field(0.25, gt=0)
    max_colour_difference: float = Field(40.0, ge=0, le=510)
    min_contrast: float = Field(4.0, ge=0)
    most_compared: int = Field(32, ge=1, le=1024)
    grouping: Literal["components", "near_survivor"] = "near_survivor"

    repeated: ClassVar[frozenset[str]] = frozenset({DECIDE})
    after_first: ClassVar[tuple[str, ...]] = (
        *Duplicates.after_first, "max_difference", "max_colour_difference", "most_compared", "grouping",
    )  # fmt: skip

    @property
    def steps(self) -> tuple[str, ...]:
        sizes = (SIZES,) if self.drop_over is not None else ()
        return (SAME, COMPARE, LOOK, AGREE, DECIDE, COPIES, *sizes, *((CAPTIONS,) if self.merge_captions else ()))

    def notes_per_pair(self, step: str, ctx: Context) -> int:
        return NUM_KEYS if step == COMPARE else 1

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        if told.step == SIZES:
            return self.size_notes(self.survivors(pairs, told))
        if told.step == CAPTIONS:
            return self.caption_notes(pairs, told)
        pairs = self._judged(pairs)
        ranks = self.ranks(pairs)
        if told.step == LOOK:
            return self._shown(pairs, ranks, told)
        if told.step == AGREE:
            return self._taken(pairs, ranks, told)
        if told.step == DECIDE:
            say = decisions if self.grouping == "near_survivor" else introductions
            return say(Neighbours.of(ranks, told.of(AGREE, LINKS)), told.rounds(DECIDE, SAID))
        keys = self._keys(pairs)
        if told.step == SAME:
            return best_notes(keys, ranks)
        firsts = self._firsts(keys, ranks, told)
        if told.step == COMPARE:
            return sketched(pairs.filter(firsts), ranks.filter(firsts))
        leaders = self._leaders(ranks, firsts, told)
        rows = pc.indices_nonzero(pc.is_valid(best_told(told, keys).column("rank")))
        return best_notes(keys.take(rows), leaders.take(rows))

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        return best_of(notes) if step in (SAME, SIZES, COPIES) else notes

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        if step == COMPARE:
            return near_ones(notes, self.most_compared)
        if step == DECIDE:
            return notes.select(SAID.names).group_by(SAID.names).aggregate([])
        if step == LOOK:
            return self._apart(notes)
        if step == AGREE:
            return self._agreed(notes)
        return self.hand_over(notes) if step == CAPTIONS else several(notes) if step != COPIES else best_of(notes)

    def survivors(self, pairs: pa.Table, told: Told) -> pa.Array:
        """Null for flat pictures."""
        judged = self._judged(pairs)
        keys, ranks = self._keys(judged), self.ranks(judged)
        leaders = self._leaders(ranks, self._firsts(keys, ranks, told), told)
        taken = told.of(COPIES, BEST)
        of_copy = taken.column("rank").take(pc.index_in(keys, whole(taken.column("key"))))
        found = pc.coalesce(leaders, whole(of_copy), ranks)
        at = pc.index_in(whole(pairs.column("uid")), whole(judged.column("uid")))
        return found.take(at)

    def leads(self, pairs: pa.Table, told: Told) -> pa.Array:
        """It has a copy, or one that looks the same to the bit."""
        linked = pc.is_in(whole(pairs.column("uid")), whole(told.of(AGREE, LINKS).column("uid")))
        return pc.or_(linked, pc.is_valid(best_told(told, self._keys(pairs)).column("rank")))

    def _judged(self, pairs: pa.Table) -> pa.Table:
        """The pairs that are not too flat."""
        return pairs.filter(pc.greater_equal(pairs.column("contrast"), self.min_contrast))

    def _keys(self, pairs: pa.Table) -> pa.Array:
        """Equal for pictures that no comparison can part."""
        both = zip(*(pairs.column(name).to_pylist() for name in ("grey", "tiny_rgb")), strict=True)
        return pa.array([hashlib.blake2b(grey + tiny, digest_size=16).hexdigest() for grey, tiny in both], pa.string())

    def _firsts(self, keys: pa.Array, ranks: pa.Array, told: Told) -> pa.Array:
        """Whether each is the best of those that look like it: only these are compared."""
        return pc.fill_null(pc.equal(best_told(told, keys).column("rank"), ranks), True).combine_chunks()

    def _leaders(self, ranks: pa.Array, firsts: pa.Array, told: Told) -> pa.Array:
        """The rank of who stays for each first; null for the others."""
        links = Neighbours.of(ranks, told.of(AGREE, LINKS))
        decide = near_survivors if self.grouping == "near_survivor" else component_heads
        heads = decide(links, told.rounds(DECIDE, SAID))
        found = heads.take(pc.index_in(ranks, links.rank))
        return pc.if_else(firsts, pc.coalesce(found, ranks), pa.scalar(None, pa.string()))

    def _shown(self, pairs: pa.Table, ranks: pa.Array, told: Told) -> pa.Table:
        """What each pair looks like, to the two of every pair of near ones."""
        near = nearest(told.of(COMPARE, NEAR), self.most_compared)
        at = pc.index_in(whole(near.column("uid")), whole(pairs.column("uid")))
        own, other = ranks.take(at), whole(near.column("near"))
        is_nearest = pc.greater(pc.bit_wise_and(near.column("how"), NEAREST), 0)
        notes = {"rank": own, "other": other, "nearest": is_nearest} | {
            name: whole(pairs.column(name)).take(at) for name in _SEEN
        }
        return between(pa.table(notes))

    def _apart(self, notes: pa.Table) -> pa.Table:
        """APART of both of every two that have each other among their nearest."""
        rank, other = whole(notes.column("rank")), whole(notes.column("other"))
        at = answers(notes)
        better = pc.fill_null(pc.and_(pc.is_valid(at), pc.less(rank, other)), False)
        one, two = notes.filter(better), notes.take(at.filter(better))
        found = self._distances(one, two)
        left, right = whole(one.column("rank")), whole(two.column("rank"))
        to, near = pa.concat_arrays([left, right]), pa.concat_arrays([right, left])
        both = whole(pc.and_(one.column("nearest"), two.column("nearest")))
        columns = [pc.utf8_slice_codeunits(to, -DIGITS), near, np.concatenate([found, found])]
        return pa.table([*columns, pa.concat_arrays([both, both])], schema=APART)

    def _distances(self, one: pa.Table, two: pa.Table) -> np.ndarray:
        """int64 a row, in millionths; FAR where colours part the two, or nothing brings them together."""
        found = apart(looks_of(one), looks_of(two))
        same = (found.colour < self.max_colour_difference) & (found.grey < FAR / ONE)
        return np.where(same, np.round(np.where(same, found.grey, 0) * ONE), FAR).astype(np.int64)

    def _taken(self, pairs: pa.Table, ranks: pa.Array, told: Told) -> pa.Table:
        """Whom each takes for its copies, to the two of them."""
        near = nearest(told.of(COMPARE, NEAR), self.most_compared)
        near = near.filter(pc.greater(pc.bit_wise_and(near.column("how"), NEAREST), 0))
        near = near.group_by("uid").aggregate([("near", "count")])
        full = near.filter(pc.greater_equal(near.column("near_count"), self.most_compared)).column("uid")
        crowd = Crowd(whole(full), max(self.most_compared // _CROWD, 1))
        links = before_the_gap(told.of(LOOK, APART), int(self.max_difference * ONE), crowd)
        rank = ranks.take(pc.index_in(whole(links.column("uid")), whole(pairs.column("uid"))))
        return between(pa.table({"rank": rank, "other": whole(links.column("near"))}))

    def _agreed(self, notes: pa.Table) -> pa.Table:
        """LINKS of every two that take each other for copies, to both."""
        both = notes.filter(pc.is_valid(answers(notes)))
        uid = pc.utf8_slice_codeunits(whole(both.column("rank")), -DIGITS)
        return pa.table([uid, both.column("other")], schema=LINKS)

    def seen(self, pairs: pa.Table) -> Mapping[str, pa.ChunkedArray]:
        return {} if self.grouping == "near_survivor" else {name: pairs.column(name) for name in _SEEN}

    def shows_the_same(self, copies: pa.Table, survivors: pa.Table) -> np.ndarray:
        """By components two of a group need not have been held against each other."""
        if self.grouping == "near_survivor":
            return np.ones(copies.num_rows, bool)
        same = pc.equal(copies.column("rank"), survivors.column("rank")).to_numpy()
        return same | (self._distances(survivors, copies) < self.max_difference * ONE)
