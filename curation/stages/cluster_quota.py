"""Prunes by density: crowded, simple clusters give most (Abbas et al., 2024, "Effective pruning of web-scale datasets
based on complexity of concept clusters")."""

from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curation.methods.first_of_each import FirstOfEach, searches
from curation.methods.rounds import Round
from curation.methods.selection import bits_of
from curation.methods.shares import projected
from curation.methods.vectors.clusters import SUMS, moved, spread_by_size, summed, sums_in, sums_of, units
from curation.methods.vectors.stored import binary, from_binary, matrix, vectors_of
from curation.stage import PIECE, Again, Context, Picks, Piece, Scores, Section, Verdicts
from curation.table.arrow import whole

_ONE = 2.0**24
_ROWS = 1024
_WIDE = 4096  # centres of a piece
_PAIRS, _MOST_CLUSTERS = 1_000, 1 << 20  # of a cluster, and clusters: what is expected before a run
_SUMS, _FAR = "sums", "far"  # rounds between the tally and the search
_TALLY = pa.schema([(name, pa.int64()) for name in ("group", "size", "distance")])
_INTER = pa.schema([("inter", pa.float64())])
_STATISTICS = ("cluster_size", "cluster_complexity", "cluster_quota")


class ClusterQuota(FirstOfEach):
    """Keeps so many pairs of each cluster of `kmeans` as its complexity asks for: the mean distance of its pairs to the
    centre times the mean distance of its centre to the `neighbours` nearest others (1 - cosine; a centre is the mean
    direction of the pairs that are there). Quotas are total x softmax(complexity / `temperature`), brought between
    bounds and to the total by projection: whole numbers that add up exactly.

    keep, fraction  pairs wanted, or their share (rounded down) of those with a cluster
    temperature     0.1 as in the paper; its code's default is 0.5
    balance         of a cluster stay at least this share of an even quota (and all but one pair, where it is smaller)
    order           which pairs of a cluster come first: far_from_centre (the paper's "hard") or near_to_centre; equal
                    distances by uid. A larger quota only adds

    Adds `cluster_size`, `cluster_complexity` and `cluster_quota`. Reasons: over_quota, no_group (no cluster).
    """

    kind: Literal["cluster_quota"] = "cluster_quota"
    version: ClassVar[int] = 2
    reason: ClassVar[str] = "over_quota"
    adds: ClassVar[tuple[pa.Field, ...]] = (
        pa.field("cluster_size", pa.int64()),
        pa.field("cluster_complexity", pa.float32()),
        pa.field("cluster_quota", pa.int64()),
    )
    after_first: ClassVar[tuple[str, ...]] = (
        "keep", "fraction", "temperature", "balance", "neighbours", "order",
    )  # fmt: skip

    column: str = Field("image_vector", min_length=1)
    keep: int | None = Field(None, ge=1)
    fraction: float | None = Field(None, gt=0, le=1)
    temperature: float = Field(0.1, gt=0)
    balance: float = Field(0.5, ge=0, le=1)
    neighbours: int = Field(20, ge=1)
    order: Literal["far_from_centre", "near_to_centre"] = "far_from_centre"

    @model_validator(mode="after")
    def _one_aim(self) -> "ClusterQuota":
        if (self.fraction is None) == (self.keep is None):
            raise ValueError("give either fraction or keep")
        return self

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.column, "cluster", "cluster_distance")

    def tally(self, pairs: pa.Table, ctx: Context) -> pa.Table:
        """group | size | distance, in units of 2^-24."""
        pairs = pairs.filter(pa.array(_clusters(pairs) >= 0))
        cluster, at = np.unique(_clusters(pairs), return_inverse=True)
        distance = np.rint(pairs.column("cluster_distance").to_numpy().astype(np.float64) * _ONE).astype(np.int64)
        number = len(cluster)
        return pa.table([cluster, np.bincount(at, minlength=number), _added(at, distance, number)], schema=_TALLY)

    def merge_tallies(self, partials: list[pa.Table]) -> pa.Table:
        if partials[0].schema.names == SUMS.names:
            return summed(partials)
        group, size, distance = (np.concatenate([each[name].to_numpy() for each in partials]) for name in _TALLY.names)
        cluster, at = np.unique(group, return_inverse=True)
        number = len(cluster)
        return pa.table([cluster, _added(at, size, number), _added(at, distance, number)], schema=_TALLY)

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        """Between the tally and the search for who stays: sums of the vectors of each cluster, in pieces."""
        if state is None or not _step_of(state):
            return super().map(pairs, state, ctx)
        pairs = pairs.filter(pa.array(_clusters(pairs) >= 0))
        vectors, rows = matrix(vectors_of(pairs, self.column))
        at = np.searchsorted(state["group"].to_numpy(), _clusters(pairs)[rows])
        found = sums_of(units(vectors), at)
        return found.append_column(PIECE, pa.array(found["cluster"].to_numpy() // _WIDE))

    def rounds_of(self, pairs: int) -> tuple[Round, ...]:
        clusters = min(max(1, pairs // _PAIRS), _MOST_CLUSTERS)
        pieces = -(-clusters // _WIDE)
        return (Round(), Round(pieces), Round(pieces, asks=False), *(Round(),) * searches(pairs, clusters))

    def pieces(self, state: pa.Table) -> int:
        return -(-state.num_rows // _WIDE) if _step_of(state) else 0

    def finish_piece(self, partial: pa.Table | None, piece: int, state: pa.Table, ctx: Context) -> Piece:
        """First the centres of some clusters; then, of these against all, how far the nearest others are."""
        if _step_of(state) == _SUMS:
            sums = SUMS.empty_table() if partial is None else partial
            number, width = min(_WIDE, state.num_rows - piece * _WIDE), sums_in(sums).shape[1]
            centres, _ = moved(sums, np.zeros((number, width), np.float32), piece * _WIDE)
            return Piece(pa.table({"centre": binary(centres)}), _INTER.empty_table())
        blocks = [(at, _centres(ctx, at)) for at in range(self.pieces(state))]
        found = _to_neighbours(piece, blocks, min(self.neighbours, state.num_rows - 1))
        return Piece(_INTER.empty_table(), pa.table([found], schema=_INTER))

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        if state is None and partial.num_rows:
            return Again(_at_step(partial, _SUMS))
        if state is not None and _step_of(state) == _SUMS:
            return Again(_at_step(state, _FAR), asks=False)
        if state is not None and not _step_of(state):
            return super().finish(partial, state, ctx)
        inter = partial["inter"].to_numpy() if state is not None else np.zeros(0)
        tally = (partial if state is None else state).select(_TALLY.names)
        return self.begun(self.quotas(tally.append_column("inter", pa.array(inter))))

    def quotas(self, tally: pa.Table) -> pa.Table:
        size, inter = (tally.column(name).to_numpy() for name in ("size", "inter"))
        intra = tally.column("distance").to_numpy() / (_ONE * np.maximum(size, 1))
        complexity = intra * inter
        total = self.keep or int(Fraction(str(self.fraction)) * int(size.sum()))
        wanted = self._wanted(complexity, size.tolist(), total)
        columns = {"group": tally["group"], "wanted": wanted, "size": size, "complexity": complexity}
        return pa.table(columns | {"intra": intra, "inter": inter})

    def _wanted(self, complexity: np.ndarray, size: list[int], total: int) -> pa.Array:
        if not size:
            return pa.array([], pa.int64())
        most = float(complexity.max())
        # Decimal's exp is rounded correctly: no library's last bit moves a quota.
        powers = [(Decimal(float(each) - most) / Decimal(str(self.temperature))).exp() for each in complexity]
        weights = [int(each * 2**64) for each in powers]
        least = int(Fraction(str(self.balance)) * total / len(size))
        return pa.array(projected(weights, [min(least, each - 1) for each in size], size, total), pa.int64())

    def ranked(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> tuple[np.ndarray, np.ndarray]:
        distance = pairs.column("cluster_distance").cast(pa.float64()).fill_null(0.0).to_numpy()
        return _clusters(pairs), bits_of(-distance if self.order == "far_from_centre" else distance)

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        cluster = _clusters(pairs)
        none = cluster < 0
        at = pa.array(np.searchsorted(state["group"].to_numpy(), cluster), mask=none)
        columns = [whole(state.column(name)).take(at) for name in ("size", "complexity", "wanted")]
        added = pa.table([each.cast(f.type) for each, f in zip(columns, self.adds, strict=True)], names=_STATISTICS)
        return Verdicts(reason=super().judge(pairs, state, ctx).reason, columns=added)

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        if state is None or not state.num_rows:
            return []
        names = ("group", "size", "wanted", "intra", "inter", "complexity")
        shown = state.select(names).sort_by([("size", "descending"), ("group", "ascending")]).slice(0, 20)
        rows = tuple(tuple(round(v, 5) for v in row.values()) for row in shown.to_pylist())
        text = (
            f"{sum(state['wanted'].to_pylist()):,} of {sum(state['size'].to_pylist()):,} pairs; the largest clusters:"
        )
        titles = ("cluster", "pairs", "quota", "distance within", "to neighbours", "complexity")
        return [Section("Quotas by density of clusters", text, titles, rows)]

    def shown(self, pairs: pa.Table, verdicts: Verdicts, state: pa.Table | None) -> list[Scores | Picks]:
        """Of some clusters who stayed and who went, by chance."""
        if state is None:
            return []
        cluster, stays = _clusters(pairs), whole(verdicts.reason).is_null().to_numpy(False)
        number, size, wanted = (state.column(name).to_numpy() for name in ("group", "size", "wanted"))
        found: list[Scores | Picks] = []
        for place, at in enumerate(spread_by_size(size, 6)):
            told = f"cluster {number[at]}, {wanted[at]:,} of {size[at]:,} pairs"
            for second, (word, side) in enumerate(((f"{told}: kept", stays), (f"{told}: gone", ~stays))):
                found.append(Picks(word, np.flatnonzero((cluster == number[at]) & side), place=2 * place + second))
        return found


def _clusters(pairs: pa.Table) -> np.ndarray:
    return pairs.column("cluster").cast(pa.int64()).fill_null(-1).to_numpy()


def _added(at: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    found = np.zeros(number, np.int64)
    np.add.at(found, at, values)
    return found


def _step_of(state: pa.Table) -> str:
    """Of the rounds between the tally and the search."""
    return state.column("step")[0].as_py() if "step" in state.column_names else ""


def _at_step(tally: pa.Table, step: str) -> pa.Table:
    return tally.select(_TALLY.names).append_column("step", pa.array([step] * tally.num_rows))


def _centres(ctx: Context, piece: int) -> np.ndarray:
    """float32 [cluster, value]."""
    assert ctx.piece is not None  # it was made in pieces
    return from_binary(ctx.piece(piece).column("centre"), np.dtype("<f4"))


def _to_neighbours(piece: int, blocks: list[tuple[int, np.ndarray]], number: int) -> np.ndarray:
    """float64 [centre of the piece]: mean of 1 - cosine to so many nearest others; 1 where there is no other."""
    width = max(each.shape[1] for _, each in blocks)
    mine = _wide(blocks[piece][1], width)
    least = np.full((len(mine), max(number, 0)), np.inf)
    for at, centres in blocks if number > 0 else []:
        theirs = _wide(centres, width)
        for first in range(0, len(mine), _ROWS):
            rows = slice(first, first + _ROWS)
            far = 1.0 - mine[rows] @ theirs.T
            if at == piece:
                own = np.arange(len(far))
                far[own, first + own] = np.inf
            least[rows] = np.partition(np.concatenate([least[rows], far], axis=1), number - 1, axis=1)[:, :number]
    return np.sort(least, axis=1).mean(axis=1) if number > 0 else np.ones(len(mine))


def _wide(centres: np.ndarray, width: int) -> np.ndarray:
    """float64; zeros where no pair of the piece has a vector."""
    return centres.astype(np.float64) if centres.shape[1] else np.zeros((len(centres), width))
