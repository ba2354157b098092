"""Clusters of vectors: k-means over the whole set, the same to the bit whatever the cut."""

from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.methods.reasons import no_reasons
from curation.methods.vectors.clusters import assigned, nearest, nearest_sums, spread_by_size, summed, unit_vectors
from curation.methods.vectors.stored import matrix, vectors_of
from curation.stage import Again, Context, Picks, Reduce, Scores, Section, Verdicts
from curation.table.arrow import whole
from pipeline.draws import keyed_uniforms

_FIRST = pa.schema([("draw", pa.float64()), ("uid", pa.string()), ("vector", pa.list_(pa.float64()))])


class Kmeans(Reduce):
    """Spherical k-means (as SemDeDup's): every vector is taken at unit length and goes to the centre with the greatest
    cosine, of equal ones the first. Adds `cluster` (int32) and `cluster_distance` (1 - cosine, float32), null for pairs
    without a vector. Drops nothing.

    column   of vectors: image_vector, or captions.text_vector, of which a pair's first caption speaks for it
    k        clusters; fewer where fewer pairs have a vector. What meets in one place is k vectors of 64-bit numbers for
             each of 64 partials: about k x width x 512 bytes
    rounds   of Lloyd, at most; it ends when no centre moves
    share    of pairs, by keyed draw, that the centres are found from; all are then assigned
    near     when more than 1, `near_clusters` is added: so many of the nearest, its own first (semantic_duplicates
             compares pairs across borders with it)

    The first centres are the k pairs with the smallest keyed draws. A cluster without pairs keeps its centre.
    """

    kind: Literal["kmeans"] = "kmeans"
    added_names: ClassVar[tuple[str, ...]] = ("cluster", "cluster_distance", "near_clusters")
    exports: ClassVar[tuple[str, ...]] = ("cluster",)
    after_first: ClassVar[tuple[str, ...]] = ("near",)

    column: str = Field("image_vector", min_length=1)
    k: int = Field(ge=1)
    rounds: int = Field(20, ge=1)
    share: float = Field(1.0, gt=0, le=1)
    near: int = Field(1, ge=1, le=64)

    @property
    def adds(self) -> tuple[pa.Field, ...]:  # type: ignore[override]
        near = (pa.field("near_clusters", pa.list_(pa.int32())),) if self.near > 1 else ()
        return (pa.field("cluster", pa.int32()), pa.field("cluster_distance", pa.float32()), *near)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.column,)

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        """First the k smallest draws with their vectors, then count and sum of each cluster."""
        vectors, rows = matrix(vectors_of(pairs, self.column))
        uids = whole(pairs.column("uid")).take(pa.array(rows))
        draw = keyed_uniforms(ctx.seed, self.kind, uids.to_pylist())
        used = draw < self.share
        if state is not None:
            return nearest_sums(vectors[used], _centres(state))
        order = np.lexsort([uids.to_pylist(), draw])[: self.k]
        order = order[used[order]]
        first = unit_vectors(vectors[order])
        return pa.table([draw[order], uids.take(pa.array(order)), list(first)], schema=_FIRST)

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        if "draw" not in partials[0].column_names:
            return summed(partials)
        both = pa.concat_tables(partials).sort_by([("draw", "ascending"), ("uid", "ascending")])
        return both.slice(0, self.k).combine_chunks()

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        """round | centre | count: a row for each cluster."""
        if state is None:
            return Again(_told(0, list(partial.column("vector").to_pylist()), [0] * partial.num_rows))
        number, before = state.column("round")[0].as_py() + 1 if state.num_rows else 1, _centres(state)
        centres, count = before.copy(), np.zeros(len(before), np.int64)
        if partial.num_rows:
            at = partial.column("cluster").to_numpy()
            sums = np.array(partial.column("sums").to_pylist(), np.int64).astype(np.float64)
            moved = np.abs(sums).max(axis=1) > 0
            centres[at[moved]] = unit_vectors(sums[moved])
            count[at] = partial.column("count").to_numpy()
        told = _told(number, list(centres), count.tolist())
        return told if number >= self.rounds or np.array_equal(centres, before) else Again(told)

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        vectors, rows = matrix(vectors_of(pairs, self.column))
        cluster, distance = np.zeros(pairs.num_rows, np.int32), np.zeros(pairs.num_rows, np.float32)
        centres = _centres(state)
        cluster[rows], cosine = assigned(vectors, centres)
        distance[rows] = 1.0 - cosine
        none = np.ones(pairs.num_rows, bool)
        none[rows] = False
        columns: list[pa.Array] = [pa.array(cluster, mask=none), pa.array(distance, mask=none)]
        if self.near > 1:
            columns.append(_lists(nearest(vectors, centres, self.near), rows, pairs.num_rows))
        return Verdicts(reason=no_reasons(pairs.num_rows), columns=pa.table(columns, schema=pa.schema(self.adds)))

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        if state is None or not state.num_rows:
            return []
        sizes = np.sort(state.column("count").to_numpy())
        text = f"{len(sizes)} clusters of {sizes[0]:,} to {sizes[-1]:,} pairs after {state.column('round')[0]} rounds."
        return [Section("Clusters", text)]

    def shown(self, pairs: pa.Table, verdicts: Verdicts, state: pa.Table | None) -> list[Scores | Picks]:
        """Pairs of some clusters, by chance."""
        if state is None:
            return []
        cluster = pairs.column("cluster").cast(pa.int64()).fill_null(-1).to_numpy()
        size, distance = state.column("count").to_numpy(), pairs.column("cluster_distance").fill_null(0.0).to_numpy()
        found: list[Scores | Picks] = []
        for place, each in enumerate(spread_by_size(size)):
            rows, share = np.flatnonzero(cluster == each), "" if self.share == 1 else " of those looked at"
            title = f"cluster {each}: {size[each]:,} pairs{share}"
            found.append(Picks(title, rows, values=distance[rows], label="distance", place=place))
        return found


def _lists(values: np.ndarray, rows: np.ndarray, num: int) -> pa.Array:
    """int32 [row, value] as lists of the rows that they are of; null for the others."""
    lists = pa.array(values.tolist(), pa.list_(pa.int32()))
    where = np.full(num, -1)
    where[rows] = np.arange(len(rows))
    return lists.take(pa.array(where, mask=where < 0))


def _told(number: int, centres: list[Any], count: list[int]) -> pa.Table:
    kinds = {"round": pa.int64(), "centre": pa.list_(pa.float64()), "count": pa.int64()}
    return pa.table({"round": [number] * len(centres), "centre": centres, "count": count}, schema=pa.schema(kinds))


def _centres(state: pa.Table) -> np.ndarray:
    """float64 [cluster, value]."""
    flat = whole(state.column("centre")).flatten().to_numpy()
    return flat.reshape(state.num_rows, -1) if state.num_rows else np.zeros((0, 0))
