"""Which clusters a reference set falls into, for DataComp's image-based filter (Gadre et al., 2023)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.reasons import no_reasons
from curation.methods.references.vectors import (
    LOCATED,
    PIECES_OF_A_SET,
    Embedder,
    check_reference,
    embedded,
    is_of_vectors,
    located,
    located_in,
    none_decodes,
    pieces_of,
    stored,
)
from curation.methods.rounds import Round
from curation.methods.vectors.clusters import summed, sums_in, sums_of, units
from curation.methods.vectors.nearest import assigned, blocks_of
from curation.methods.vectors.stored import from_bytes, matrix, vectors_of
from curation.stage import Again, Context, Piece, Reduce, Section, Stage, Verdicts
from curation.stage_order import added
from curation.table.arrow import whole
from pipeline.errors import DataError
from pipeline.settings import PathText

_STATE = pa.schema([("cluster", pa.int32()), ("pairs", pa.int64()), ("items", pa.int64())])


class ReferenceClusters(Reduce):
    """Adds `reference_items` (int64): of how many items of the reference set the pair's cluster (`kmeans` before this)
    is the nearest, which is that with the greatest cosine of the mean of its members, of equal ones the first; null for
    pairs without a cluster. It drops nothing: `threshold` does, by {column: reference_items, min: 1}.

    path    of the set: images, embedded here in pieces, or a file of vectors (methods/references/vectors.py)
    key     of the array in an .npz, or the column of a parquet file
    embed   the model for images: that of `clip_image_vector`
    column  of the vectors that the clusters are of

    What meets in one place is a sum of 64-bit numbers for each cluster, as in `kmeans`.
    """

    kind: Literal["reference_clusters"] = "reference_clusters"
    version: ClassVar[int] = 2

    path: PathText
    key: str | None = Field(None, min_length=1)
    embed: Embedder | None = None
    column: str = Field("image_vector", min_length=1)

    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("reference_items", pa.int64()),)
    after_first: ClassVar[tuple[str, ...]] = ("path", "key", "embed")

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("cluster", self.column)

    def files(self) -> dict[str, str]:
        return {"path": self.path}

    def file_digests(self) -> dict[str, tuple[str, str]]:
        found = super().file_digests()
        if self.embed is not None and not is_of_vectors(self.path):
            found |= self.embed.file_digests(f"{self.kind}.embed")
        return found

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        super().check(where, before)
        by = next((stage for stage in before if self.column in added(stage)), None)
        check_reference(self.path, self.embed, f"{where}.path", f"{where}.embed", by)

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        vectors, rows = matrix(vectors_of(pairs, self.column))
        cluster = pc.fill_null(whole(pairs.column("cluster")).take(pa.array(rows)), -1).to_numpy()
        return sums_of(units(vectors[cluster >= 0]), cluster[cluster >= 0])

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        return summed(partials)

    def rounds_of(self, pairs: int) -> tuple[Round, ...]:
        return (Round(),) if is_of_vectors(self.path) else (Round(), Round(PIECES_OF_A_SET, asks=False))

    def pieces(self, state: pa.Table) -> int:
        return pieces_of(located_in(state).num_rows) if "file" in state.column_names else 0

    def finish_piece(self, partial: pa.Table | None, piece: int, state: pa.Table, ctx: Context) -> Piece:
        assert self.embed is not None  # checked before any work
        told = embedded(located_in(state), piece, self.embed, f"{self.kind}.path")
        return Piece(told.slice(0, 0), told)

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        """cluster (rising) | pairs | items of the reference set that are nearest to it."""
        if state is None and not partial.num_rows:
            return _STATE.empty_table()
        if state is None and not is_of_vectors(self.path):
            both = [partial, located(self.path, f"{self.kind}.path")]
            return Again(pa.concat_tables(both, promote_options="default"), asks=False)
        if state is None:
            return self._counted(partial, stored(self.path, self.key, f"{self.kind}.path"))
        if not partial.num_rows:
            raise none_decodes(self.path)
        sums = state.filter(pc.is_valid(state["cluster"])).drop_columns(LOCATED.names)
        return self._counted(sums, from_bytes(partial["vector"]))

    def _counted(self, partial: pa.Table, wanted: np.ndarray) -> pa.Table:
        sums = sums_in(partial)
        if wanted.shape[1] != sums.shape[1]:
            found = f"{self.path}: vectors of {wanted.shape[1]} values"
            hint = "give vectors by the model of `clip_image_vector`, or a set of images"
            raise DataError(found, f"those of the pool have {sums.shape[1]}", "the same model", hint)
        nearest = assigned(units(wanted), blocks_of(units(sums)))[0]
        items = np.bincount(nearest, minlength=len(sums))
        return pa.table([partial.column("cluster"), partial.column("count"), items], schema=_STATE)

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        at = pc.index_in(whole(pairs.column("cluster")), whole(state.column("cluster")))
        items = whole(state.column("items")).take(at)
        return Verdicts(reason=no_reasons(pairs.num_rows), columns=pa.table([items], schema=pa.schema(self.adds)))

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        if state is None or not state.num_rows:
            return []
        items, pairs = (state.column(name).to_numpy() for name in ("items", "pairs"))
        text = f"{(items > 0).sum():,} of {len(items):,} clusters are the nearest of one of {items.sum():,} items."
        best = np.argsort(-items, kind="stable")[:20]
        rows = tuple((int(state.column("cluster")[at].as_py()), int(items[at]), int(pairs[at])) for at in best.tolist())
        return [Section("Near the reference set", text, ("cluster", "items", "pairs"), rows)]
