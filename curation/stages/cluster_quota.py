"""Prunes by density: crowded, simple clusters give most (Abbas et al., 2024, "Effective pruning of web-scale datasets
based on complexity of concept clusters")."""

from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curation.methods.first_of_each import FirstOfEach
from curation.methods.selection import bits_of
from curation.methods.shares import projected
from curation.methods.vectors.clusters import spread_by_size, unit_vectors
from curation.methods.vectors.stored import matrix, vectors_of
from curation.stage import Context, Picks, Scores, Section, Verdicts
from curation.table.arrow import whole

_ONE = 2.0**24
_ROWS = 1024
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
        """cluster | size | distance and the sums of vectors in units of 2^-24."""
        pairs = pairs.filter(pa.array(_clusters(pairs) >= 0))
        vectors, rows = matrix(vectors_of(pairs, self.column))
        cluster, at = np.unique(_clusters(pairs), return_inverse=True)
        distance = np.rint(pairs.column("cluster_distance").to_numpy().astype(np.float64) * _ONE).astype(np.int64)
        sums = np.zeros((len(cluster), vectors.shape[1]), np.int64)
        for first in range(0, len(rows), _ROWS):
            some = slice(first, first + _ROWS)
            np.add.at(sums, at[rows[some]], (unit_vectors(vectors[some]) * _ONE).astype(np.int64))
        return _tally(cluster, np.bincount(at, minlength=len(cluster)), _added(at, distance, len(cluster)), sums)

    def merge_tallies(self, partials: list[pa.Table]) -> pa.Table:
        there = [each for each in partials if each.num_rows]
        if not there:
            return partials[0]
        cluster, at = np.unique(np.concatenate([each["group"].to_numpy() for each in there]), return_inverse=True)
        size, distance = (np.concatenate([each[name].to_numpy() for each in there]) for name in ("size", "distance"))
        flat = np.concatenate([_sums(each) for each in there])
        sums = np.zeros((len(cluster), flat.shape[1]), np.int64)
        np.add.at(sums, at, flat)
        number = len(cluster)
        return _tally(cluster, _added(at, size, number), _added(at, distance, number), sums)

    def quotas(self, tally: pa.Table) -> pa.Table:
        size = tally.column("size").to_numpy()
        intra = tally.column("distance").to_numpy() / (_ONE * np.maximum(size, 1))
        inter = _to_neighbours(unit_vectors(_sums(tally).astype(np.float64)), self.neighbours)
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


def _tally(cluster: np.ndarray, size: np.ndarray, distance: np.ndarray, sums: np.ndarray) -> pa.Table:
    offsets = np.arange(len(cluster) + 1, dtype=np.int64) * sums.shape[1]
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(sums.reshape(-1)))
    kinds = [("group", pa.int64()), ("size", pa.int64()), ("distance", pa.int64()), ("sums", lists.type)]
    return pa.table([cluster, size, distance, lists], schema=pa.schema(kinds))


def _sums(tally: pa.Table) -> np.ndarray:
    """int64 [cluster, value]."""
    flat = whole(tally.column("sums")).flatten().to_numpy()
    return flat.reshape(tally.num_rows, -1) if tally.num_rows else np.zeros((0, 0), np.int64)


def _to_neighbours(centres: np.ndarray, neighbours: int) -> np.ndarray:
    """float64: mean of 1 - cosine to the nearest others; 1 where there is no other."""
    number = min(neighbours, len(centres) - 1)
    found = np.ones(len(centres))
    for at in range(0, len(centres) if number > 0 else 0, _ROWS):
        far = 1.0 - centres[at : at + _ROWS] @ centres.T
        far[np.arange(len(far)), at + np.arange(len(far))] = np.inf
        found[at : at + _ROWS] = np.sort(np.partition(far, number - 1, axis=1)[:, :number], axis=1).mean(axis=1)
    return found
