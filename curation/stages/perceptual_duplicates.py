"""Keeps one of several pairs whose images look the same: resized, re-encoded, slightly cropped copies."""

import hashlib
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.images.phash import HASH_BITS, hamming
from curation.images.pixels import TINY_SIDE
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
from curation.methods.pictures.likeness import (
    LINKS,
    SAID,
    Neighbours,
    component_heads,
    decisions,
    introductions,
    near_survivors,
)
from curation.methods.pictures.nearness import (
    band_keys,
    colour_distance,
    largest_difference,
    near_hashes,
    ratio_of,
    tiny_of,
)
from curation.stage import GROUP, Context, Told
from curation.table.arrow import whole
from curation.table.uids import DIGITS
from pipeline.draws import hashed_u64

_SEEN = ("phash", "tiny_rgb", "width", "height")  # what a comparison of two pictures needs
_MERGE_RATIO = (
    1.03  # how far the ratios of the sides of two files of one picture may be apart: rounding, a cropped edge
)
COMPARE, LOOK, DECIDE, COPIES = "compare", "look", "decide", "copies"
_GROUP, _MOST_NOTES = 512, 70  # hashes wanted in a group; notes of a picture, at most
_SHOWN = LINKS.append(pa.field("tiny_rgb", pa.binary(3 * TINY_SIDE**2)))


class PerceptualDuplicates(Duplicates):
    """Two images are alike when their 64-bit hashes differ in at most `radius` bits and their 8 x 8 thumbnails by at
    most `max_colour_distance` levels on average. The hash sees no colour: without the second test a red button and a
    blue one are copies. Every pair of images within the radius is found, none is guessed (see `num_bands`).

    Alike is not the same: a card and its sibling, two stars of which one has a ray more. So captions of a removed pair
    go to its survivor only when these two, compared with each other, differ in at most `merge_radius` bits of the hash,
    by at most `merge_colour_distance` levels on average and `merge_largest_difference` anywhere in the thumbnails, and
    by at most 3% in the ratio of their sides.

    grouping     near_survivor: going through the pairs from the best down, each takes away those alike to itself, so
                 that none is removed for the sake of one it does not resemble. components: all that hang together by
                 likeness are one group; on clip art and text signs, where likeness forms chains, more are lost
    min_contrast images flatter than this (standard deviation of grey levels) are left alone: their hash is noise
    num_bands    hashes are cut into this many runs of bits; two alike hashes share at least num_bands - radius of them.
                 More bands make smaller groups to compare and more notes to write; default: by the size of the crawl
    """

    kind: Literal["perceptual_duplicates"] = "perceptual_duplicates"
    reads: ClassVar[tuple[str, ...]] = ("phash", "contrast", "tiny_rgb", "width", "height", "captions.text")

    radius: int = Field(4, ge=0, le=16)
    max_colour_distance: float | None = Field(10.0, ge=0, le=255)
    min_contrast: float = Field(4.0, ge=0)
    merge_radius: int = Field(2, ge=0, le=16)
    merge_colour_distance: float = Field(2.0, ge=0, le=255)
    merge_largest_difference: int = Field(16, ge=0, le=255)
    grouping: Literal["components", "near_survivor"] = "near_survivor"
    num_bands: int | None = Field(None, ge=1, le=24)

    repeated: ClassVar[frozenset[str]] = frozenset({DECIDE})
    after_first: ClassVar[tuple[str, ...]] = (
        *Duplicates.after_first, "radius", "merge_radius", "merge_colour_distance", "merge_largest_difference",
        "grouping", "num_bands",
    )  # fmt: skip

    @model_validator(mode="after")
    def _enough_bands(self) -> "PerceptualDuplicates":
        if self.num_bands is not None and not self.radius < self.num_bands <= self.radius + 4:
            raise ValueError(f"num_bands must be radius + 1 to radius + 4 ({self.radius + 1} to {self.radius + 4})")
        return self

    @property
    def steps(self) -> tuple[str, ...]:
        sizes = (SIZES,) if self.drop_over is not None else ()
        look = (LOOK,) if self.max_colour_distance is not None else ()
        return (SAME, COMPARE, *look, DECIDE, COPIES, *sizes, *((CAPTIONS,) if self.merge_captions else ()))

    def notes_per_pair(self, step: str, ctx: Context) -> int:
        return math.comb(self._bands(ctx), self.radius) if step == COMPARE else 1

    def _bands(self, ctx: Context) -> int:
        return self.num_bands or self.bands_for(ctx.rows)

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        if told.step == SIZES:
            return self.size_notes(self.survivors(pairs, told))
        if told.step == CAPTIONS:
            return self.caption_notes(pairs, told)
        pairs, keys, ranks = self._judged(pairs)
        if told.step == SAME:
            return best_notes(keys, ranks)
        firsts = self._firsts(keys, ranks, told)
        if told.step == COMPARE:
            return self._hashes(pairs.filter(firsts), ranks.filter(firsts), ctx)
        if told.step == LOOK:
            return self._shown(pairs, ranks, told)
        links = Neighbours.of(ranks.filter(firsts), self._links(pairs, told))
        if told.step == DECIDE:
            say = decisions if self.grouping == "near_survivor" else introductions
            return say(links, told.rounds(DECIDE, SAID))
        leaders = self._leaders(ranks, firsts, links, told)
        several = pc.is_valid(best_told(told, keys).column("rank"))
        rows = pc.indices_nonzero(several)
        return best_notes(keys.take(rows), leaders.take(rows))

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        return best_of(notes) if step in (SAME, SIZES, COPIES) else notes

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        if step == COMPARE:
            return self.compare(notes)
        if step == DECIDE:
            return notes.select(SAID.names).group_by(SAID.names).aggregate([])
        if step == LOOK:
            return notes.select(_SHOWN.names)
        return self.hand_over(notes) if step == CAPTIONS else several(notes) if step != COPIES else best_of(notes)

    def survivors(self, pairs: pa.Table, told: Told) -> pa.Array:
        """Null for flat pictures."""
        judged, keys, ranks = self._judged(pairs)
        firsts = self._firsts(keys, ranks, told)
        links = Neighbours.of(ranks.filter(firsts), self._links(judged, told))
        leaders = self._leaders(ranks, firsts, links, told)
        taken = told.of(COPIES, BEST)
        of_copy = taken.column("rank").take(pc.index_in(keys, whole(taken.column("key"))))
        found = pc.coalesce(leaders, whole(of_copy), ranks)
        at = pc.index_in(whole(pairs.column("uid")), whole(judged.column("uid")))
        return found.take(at)

    def leads(self, pairs: pa.Table, told: Told) -> pa.Array:
        """It has a neighbour, or one that looks the same."""
        linked = pc.is_in(whole(pairs.column("uid")), whole(told.of(COMPARE, LINKS).column("uid")))
        return pc.or_(linked, pc.is_valid(best_told(told, self._keys(pairs)).column("rank")))

    def _judged(self, pairs: pa.Table) -> tuple[pa.Table, pa.Array, pa.Array]:
        """The pairs that are not too flat, what they look like, their ranks."""
        pairs = pairs.filter(pc.greater_equal(pairs.column("contrast"), self.min_contrast))
        return pairs, self._keys(pairs), self.ranks(pairs)

    def _keys(self, pairs: pa.Table) -> pa.Array:
        """Equal for pictures that no comparison can part."""
        hashes = pairs.column("phash").to_pylist()
        if self.max_colour_distance is None:
            return pa.array([f"{each:016x}" for each in hashes], pa.string())
        both = zip(hashes, pairs.column("tiny_rgb").to_pylist(), strict=True)
        looks = (each.to_bytes(8, "little") + tiny for each, tiny in both)
        return pa.array([hashlib.blake2b(look, digest_size=16).hexdigest() for look in looks], pa.string())

    def _firsts(self, keys: pa.Array, ranks: pa.Array, told: Told) -> pa.Array:
        """Whether each is the best of those that look like it: only these are compared."""
        return pc.fill_null(pc.equal(best_told(told, keys).column("rank"), ranks), True).combine_chunks()

    def _leaders(self, ranks: pa.Array, firsts: pa.Array, links: Neighbours, told: Told) -> pa.Array:
        """The rank of who stays for each first; null for the others."""
        decide = near_survivors if self.grouping == "near_survivor" else component_heads
        heads = decide(links, told.rounds(DECIDE, SAID))
        found = heads.take(pc.index_in(ranks, links.rank))
        return pc.if_else(firsts, pc.coalesce(found, ranks), pa.scalar(None, pa.string()))

    def _hashes(self, pairs: pa.Table, ranks: pa.Array, ctx: Context) -> pa.Table:
        """A note per picture and choice of bands that all alike hashes might share."""
        hashes = pa.table({"rank": ranks, "phash": pairs.column("phash")})
        keys = band_keys(whole(pairs.column("phash")).to_numpy(), self._bands(ctx), self.radius)
        return pa.concat_tables([hashes.append_column(GROUP, pa.array(key)) for key in keys])

    def _shown(self, pairs: pa.Table, ranks: pa.Array, told: Told) -> pa.Table:
        """The thumbnail of each pair, to those whose hash is near its own."""
        near = told.of(COMPARE, LINKS)
        at = pc.index_in(whole(near.column("uid")), whole(pairs.column("uid")))
        to = pc.utf8_slice_codeunits(whole(near.column("near")), -DIGITS)
        shown = {"uid": to, "near": ranks.take(at), "tiny_rgb": whole(pairs.column("tiny_rgb")).take(at)}
        return pa.table(shown).append_column(GROUP, pa.array(hashed_u64(to.to_pylist())))

    def _links(self, pairs: pa.Table, told: Told) -> pa.Table:
        """LINKS of the pairs to all that they are alike to."""
        if self.max_colour_distance is None:
            return told.of(COMPARE, LINKS)
        shown = told.of(LOOK, _SHOWN)
        own = whole(pairs.column("tiny_rgb")).take(pc.index_in(whole(shown.column("uid")), whole(pairs.column("uid"))))
        tiny = np.concatenate([tiny_of(pa.table({"tiny_rgb": own})), tiny_of(shown)])
        both = np.stack([np.arange(len(own)), np.arange(len(own)) + len(own)], axis=1)
        return shown.select(LINKS.names).filter(pa.array(colour_distance(tiny, both) <= self.max_colour_distance))

    def bands_for(self, rows: int) -> int:
        """The fewest with which about _GROUP of `rows` hashes share a choice: which are found never depends on it."""
        more = 1
        while (
            rows / 2 ** (HASH_BITS * more / (self.radius + more)) > _GROUP
            and math.comb(self.radius + more + 1, more + 1) <= _MOST_NOTES
        ):
            more += 1
        return self.radius + more

    def compare(self, notes: pa.Table) -> pa.Table:
        """LINKS of all that share a group and whose hashes are near, both ways."""
        notes = notes.sort_by([(GROUP, "ascending"), ("rank", "ascending")])
        group, rank = notes.column(GROUP).to_numpy(), whole(notes.column("rank"))
        found = near_hashes(group, notes.column("phash").to_numpy(), self.radius)
        left, right = (rank.take(pa.array(column)) for column in (found[:, 0], found[:, 1]))
        near = pa.table({"to": pa.concat_arrays([left, right]), "near": pa.concat_arrays([right, left])})
        near = near.group_by(["to", "near"]).aggregate([])
        return pa.table([pc.utf8_slice_codeunits(whole(near.column("to")), -DIGITS), near.column("near")], schema=LINKS)

    def seen(self, pairs: pa.Table) -> Mapping[str, pa.ChunkedArray]:
        return {name: pairs.column(name) for name in _SEEN}

    def shows_the_same(self, copies: pa.Table, survivors: pa.Table) -> np.ndarray:
        mine, theirs = ([t.column("phash").to_numpy(), tiny_of(t)] for t in (copies, survivors))
        tiny, num = np.concatenate([mine[1], theirs[1]]), copies.num_rows
        pairs = np.stack([np.arange(num), np.arange(num) + num], axis=1)
        ratio = ratio_of(copies) / ratio_of(survivors)
        return (
            (hamming(mine[0], theirs[0]) <= self.merge_radius)
            & (colour_distance(tiny, pairs) <= self.merge_colour_distance)
            & (largest_difference(tiny, pairs) <= self.merge_largest_difference)
            & (np.maximum(ratio, 1 / ratio) <= _MERGE_RATIO)
        )
