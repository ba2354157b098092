"""Keeps one of several pairs that mean the same: whose vectors point the same way (SemDeDup; Abbas et al., 2023)."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.kept_apart import HEARD, Heard
from curation.methods.pictures.duplicates import CAPTIONS, SIZES, Duplicates, best_of, criterion_of
from curation.methods.pictures.likeness import LINKS, SAID, Neighbours, component_heads, introductions
from curation.methods.selection import bits_of
from curation.methods.vectors.clusters import unit_vectors
from curation.methods.vectors.neighbours import Side, earliest, forest, heard, heard_alone
from curation.methods.vectors.stored import as_bytes, from_bytes, vectors_of
from curation.methods.vectors.tiles import blocks_for, dealt, groups, tiles
from curation.stage import GROUP, NO_NOTES, Context, Stage, Told
from curation.stage_order import added
from curation.table.arrow import whole
from curation.table.uids import DIGITS
from pipeline.errors import RecipeError

MEMBERS, LINK, COMPARE, DECIDE = "members", "link", "compare", "decide"
_COUNTED = pa.schema([("cluster", pa.int32()), ("members", pa.int64())])
Order = Literal["far_from_centre", "near_to_centre", "area", "num_captions", "longest_caption"]


class SemanticDuplicates(Duplicates):
    """Two pairs are alike when the cosine of their vectors is greater than 1 - `eps` and they share a cluster of
    `kmeans`. Cosines are exact (of values rounded to 2^-24), so that nothing depends on who is multiplied with whom.

    column     of vectors: image_vector, or captions.text_vector, of which a pair's first caption speaks for it
    mode       greedy: going through the pairs from the best down, each that is still there takes away those alike to
               itself, so that none goes for the sake of one it does not resemble. reference: as in SemDeDup's code, a
               pair goes when any better one is alike, one that has gone itself too, so that chains collapse; its
               survivor is where the chain of first likenesses ends. components: one stays of all that hang together
    probe      clusters that a pair is compared in: its own and the next nearest (`kmeans` with as large a `near`), so
               that copies on two sides of a border are found, too
    survivor   the best come first: far_from_centre is SemDeDup's order ("hard"), near_to_centre its "easy"; an empty
               list its "random": by uid. Ties by uid
    merge_captions, merge_eps  captions of those closer than this to their survivor are handed to it: alike in meaning
               is not the same picture, so by default none are

    A cluster is compared in blocks of some 32,000 vectors, each two of which meet in a task of their own: memory is
    that of two blocks, and of a bucket's notes, one for each block of the cluster a pair is in. The work grows with the
    square of a cluster, so k is best chosen for some thousand pairs each. Pairs without a vector stay.

    Reasons: copy (detail: the survivor's uid), too_many_copies.
    """

    kind: Literal["semantic_duplicates"] = "semantic_duplicates"
    version: ClassVar[int] = 2

    column: str = Field("image_vector", min_length=1)
    mode: Literal["greedy", "reference", "components"] = "greedy"
    eps: float = Field(0.05, gt=0, lt=1)
    probe: int = Field(1, ge=1, le=64)
    survivor: tuple[Order, ...] = ("far_from_centre",)  # type: ignore[assignment]  # two more than of pictures
    merge_captions: bool = False
    merge_eps: float = Field(0.02, gt=0, lt=1)

    repeated: ClassVar[frozenset[str]] = frozenset({COMPARE, DECIDE})
    # The first survey counts members: of that only the clusters matter.
    after_first: ClassVar[tuple[str, ...]] = (
        *Duplicates.after_first, "column", "mode", "eps", "survivor", "merge_eps",
    )  # fmt: skip

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        near = ("near_clusters",) if self.probe > 1 else ()
        area = ("width", "height") if "area" in self.survivor else ()
        return (self.column, "cluster", "cluster_distance", *near, *area, "captions.text")

    @property
    def steps(self) -> tuple[str, ...]:
        sizes = (SIZES,) if self.drop_over is not None else ()
        found = (COMPARE,) if self.mode == "greedy" else (LINK, DECIDE)
        return (MEMBERS, *found, *sizes, *((CAPTIONS,) if self.merge_captions else ()))

    def notes_per_pair(self, step: str, ctx: Context) -> int:
        """Of the width of a vector, so that fewer meet in a task."""
        return 1 if step == DECIDE else 8 * self.probe

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        near = [getattr(stage, "near", 1) for stage in before if "near_clusters" in added(stage)]
        if self.probe > 1 and near and near[-1] < self.probe:
            found = f"{self.probe} clusters are to be looked into, `kmeans` tells {near[-1]}"
            raise RecipeError(f"{where}.probe", found, "", f"give `kmeans` near: {self.probe}")

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        if told.step == SIZES:
            return self.size_notes(self.survivors(pairs, told))
        if told.step == CAPTIONS:
            return self.caption_notes(pairs, told)
        pairs = self._judged(pairs)
        if told.step == MEMBERS:
            return self._member_notes(pairs)
        ranks = self.ranks(pairs)
        if told.step == LINK:
            return self._shown(pairs, ranks, np.zeros(len(ranks), np.int8), told)
        if told.step == DECIDE:
            return introductions(self._links(ranks, told), told.rounds(DECIDE, SAID))
        heard = Heard.of(whole(pairs.column("uid")), told.rounds(COMPARE, HEARD))
        asks = pa.array(heard.asks)
        return self._shown(pairs.filter(asks), ranks.filter(asks), heard.state[heard.asks], told)

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        if step == MEMBERS:
            found = notes.group_by([GROUP, "cluster"]).aggregate([("members", "sum")])
            return found.rename_columns([GROUP, "cluster", "members"])
        return best_of(notes) if step == SIZES else notes

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        if step == MEMBERS:
            return self.combine(notes, step)
        if step == DECIDE:
            return notes.select(SAID.names).group_by(SAID.names).aggregate([])
        if step in (LINK, COMPARE):
            made = [self._tile(tile, step) for tile in _tiles_of(notes)]
            return pa.concat_tables(made).combine_chunks()
        return self.hand_over(notes) if step == CAPTIONS else best_of(notes)

    def survivors(self, pairs: pa.Table, told: Told) -> pa.Array:
        judged = self._judged(pairs)
        ranks, uids = self.ranks(judged), whole(judged.column("uid"))
        if self.mode == "greedy":
            found = pc.coalesce(Heard.of(uids, told.rounds(COMPARE, HEARD)).survivor, ranks)
        else:
            links = self._links(ranks, told)
            heads = component_heads(links, told.rounds(DECIDE, SAID))
            found = pc.coalesce(heads.take(pc.index_in(ranks, links.rank)), ranks)
        return found.take(pc.index_in(whole(pairs.column("uid")), uids))

    def leads(self, pairs: pa.Table, told: Told) -> pa.Array:
        """It was told of one that is alike."""
        tables = [*told.rounds(COMPARE, HEARD), *told.rounds(LINK, LINKS), *told.rounds(DECIDE, SAID)]
        uids = pa.concat_arrays([pa.array([], pa.string()), *(whole(each.column("uid")) for each in tables)])
        return pc.is_in(whole(pairs.column("uid")), uids)

    def criterion(self, name: str, pairs: pa.Table) -> np.ndarray:
        if name not in ("far_from_centre", "near_to_centre"):
            return criterion_of(name, pairs)
        distance = pairs.column("cluster_distance").cast(pa.float64()).fill_null(0.0).to_numpy()
        far = (bits_of(distance) >> np.uint64(2)).astype(np.int64)  # a float32 has nothing in its last bits
        return far if name == "far_from_centre" else 2**62 - 1 - far

    def seen(self, pairs: pa.Table) -> Mapping[str, pa.ChunkedArray]:
        return {"vector": pa.chunked_array([as_bytes(vectors_of(pairs, self.column))])}

    def shows_the_same(self, copies: pa.Table, survivors: pa.Table) -> np.ndarray:
        left, right = (unit_vectors(from_bytes(each.column("vector"))) for each in (copies, survivors))
        return (left * right).sum(axis=1) > 1 - self.merge_eps

    def _judged(self, pairs: pa.Table) -> pa.Table:
        there = pc.and_(pc.is_valid(vectors_of(pairs, self.column)), pc.is_valid(whole(pairs.column("cluster"))))
        return pairs.filter(there)

    def _members(self, pairs: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, cluster, whether it is its own) of each cluster that a pair is compared in."""
        own = pairs.column("cluster").to_numpy().astype(np.int64)
        rows = np.arange(len(own))
        if self.probe == 1:
            return rows, own, np.ones(len(own), bool)
        near = whole(pairs.column("near_clusters"))
        row = np.repeat(rows, pc.list_value_length(near).to_numpy())
        cluster = near.flatten().to_numpy().astype(np.int64)
        place = np.arange(len(row)) - np.searchsorted(row, row)
        visits = (place < self.probe) & (cluster != own[row])
        row, cluster = np.concatenate([rows, row[visits]]), np.concatenate([own, cluster[visits]])
        return row, cluster, np.arange(len(row)) < len(own)

    def _member_notes(self, pairs: pa.Table) -> pa.Table:
        cluster, count = np.unique(self._members(pairs)[1], return_counts=True)
        notes = pa.table([cluster.astype(np.int32), count], schema=_COUNTED)
        return notes.append_column(GROUP, pa.array(groups(cluster, np.zeros(len(cluster), np.uint64))))

    def _shown(self, pairs: pa.Table, ranks: pa.Array, state: np.ndarray, told: Told) -> pa.Table:
        """A note for each tile that a pair is in: its rank and vector, and what is known of it."""
        if not pairs.num_rows:
            return NO_NOTES.empty_table()
        row, cluster, own = self._members(pairs)
        counted = told.of(MEMBERS, _COUNTED).sort_by("cluster")
        at = np.searchsorted(counted.column("cluster").to_numpy(), cluster)
        blocks = blocks_for(counted.column("members").to_numpy()[at])
        uids = pairs.column("uid").take(pa.array(row)).to_pylist()
        member, tile, second = tiles(dealt(uids, blocks), blocks)
        row, cluster, own = row[member], cluster[member], own[member]
        alone = (blocks[member] == 1) & (self.probe == 1)
        columns = {
            GROUP: groups(cluster, tile), "cluster": cluster, "tile": tile, "alone": alone, "second": second,
            "own": own, "state": state[row], "rank": ranks.take(pa.array(row)),
            "vector": as_bytes(vectors_of(pairs, self.column)).take(pa.array(row)),
        }  # fmt: skip
        return pa.table(columns)

    def _tile(self, notes: pa.Table, step: str) -> pa.Table:
        """What the vectors of one tile say of each other: HEARD, or LINKS that hold together who hangs together."""
        ranks, vectors = whole(notes.column("rank")), from_bytes(notes.column("vector"))
        names, bound = pc.utf8_slice_codeunits(ranks, -DIGITS), 1 - self.eps
        if step == COMPARE and notes.column("alone")[0].as_py():
            return heard_alone(names, ranks, vectors, bound)
        second, own, state = (whole(notes.column(name)).to_numpy(False) for name in ("second", "own", "state"))
        sides = [np.flatnonzero(~second), np.flatnonzero(second)]
        one, other = (Side.of(vectors[rows], rows, own[rows]) for rows in sides)
        within = notes.column("tile")[0].as_py() % (2**20 + 1) == 0  # of a block with itself
        met = [(one, one)] if within else [(one, other), (other, one)]
        if step == COMPARE:
            return heard(names, ranks, state, met, bound)
        if self.mode == "components":
            links = forest(*met[0], bound, len(ranks))
            links = np.concatenate([links, links[:, ::-1]])  # those that introduce others must know of both
        else:
            links = np.concatenate([earliest(left, right, bound) for left, right in met])
        uids, first = (ranks.take(pa.array(links[:, at])) for at in (0, 1))
        return pa.table([pc.utf8_slice_codeunits(uids, -DIGITS), first], schema=LINKS)

    def _links(self, ranks: pa.Array, told: Told) -> Neighbours:
        """Those that decide: of a pair the first that is alike (reference), or all that were told it (components)."""
        links = told.of(LINK, LINKS)
        if self.mode == "reference":
            links = links.group_by("uid").aggregate([("near", "min")]).rename_columns(LINKS.names)
        return Neighbours.of(ranks, links)


def _tiles_of(notes: pa.Table) -> list[pa.Table]:
    """The notes of each tile, the best first, sorted by rank."""
    by = ("cluster", "tile")
    notes = notes.sort_by([(name, "ascending") for name in (*by, "rank")])
    both = np.stack([notes.column(name).to_numpy().astype(np.int64) for name in by], axis=1)
    starts = np.flatnonzero(np.r_[True, (both[1:] != both[:-1]).any(axis=1)])
    return [notes.slice(a, b - a) for a, b in zip(starts, [*starts[1:], len(both)], strict=True)]
