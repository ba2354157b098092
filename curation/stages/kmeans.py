"""Clusters of vectors: k-means over the whole set, the same to the bit whatever the cut."""

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from curation.methods.reasons import no_reasons
from curation.methods.rounds import Round
from curation.methods.vectors.clusters import SUMS, moved, spread_by_size, summed, sums_of, units
from curation.methods.vectors.levels import Levels, grown
from curation.methods.vectors.nearest import Blocks, assigned, blocks_of, gpu_of, nearest
from curation.methods.vectors.stored import binary, from_binary, matrix, vectors_of
from curation.stage import PIECE, Again, Context, Picks, Piece, Reduce, Scores, Section, Verdicts
from curation.table.arrow import whole
from pipeline.draws import keyed_uniforms

WIDE = 4096
"""Centres that meet in one place; more come in pieces of about so many."""
_BINS = 1 << 18  # of draws, to cut the first centres by
_F2, _F4 = np.dtype("<f2"), np.dtype("<f4")
_DRAWN = [("draw", pa.float64()), ("uid", pa.string())]
FIRST, MEMBERS = (pa.schema([*_DRAWN, (name, pa.large_binary())]) for name in ("vector", "member"))
_BIN_COUNTS = pa.schema([("bin", pa.int64()), ("count", pa.int64())])
_CENTRES = pa.schema([("centre", pa.large_binary()), ("count", pa.int64())])
_TOLD = pa.schema([(name, pa.int64()) for name in ("number", "moved", "least", "most", "largest", "rounds")])


class Kmeans(Reduce):
    """Spherical k-means (as SemDeDup's): every vector is taken at unit length and goes to the centre with the greatest
    cosine, of equal ones the first. Adds `cluster` (int32) and `cluster_distance` (1 - cosine, float32), null for pairs
    without a vector. Drops nothing.

    column   of vectors: image_vector, or captions.text_vector, of which a pair's first caption speaks for it
    k        clusters; fewer where fewer pairs have a vector
    levels   [a, b] in place of `k`: a coarse clusters, and in each b of its own, so that a vector is held against a + b
             centres. Cluster j of the coarse cluster i has the number i x b + j; none is empty of numbers but where a
             coarse cluster has fewer pairs than b
    rounds   of Lloyd, at most (of each level); it ends when no centre moves
    share    of pairs, by keyed draw, that the centres are found from; all are then assigned
    per_centre  of a coarse cluster the pairs with the smallest draws count, so many times b, which bounds memory
    near     when more than 1, `near_clusters` is added: so many of the nearest, its own first (semantic_duplicates
             compares pairs across borders with it); with `levels` of the so many nearest coarse clusters

    The first centres are the pairs with the smallest keyed draws. A cluster without pairs keeps its centre. On a GPU
    where placement gives one; the same clusters. What it costs at any size is in curation/README.md.
    """

    kind: Literal["kmeans"] = "kmeans"
    version: ClassVar[int] = 2
    added_names: ClassVar[tuple[str, ...]] = ("cluster", "cluster_distance", "near_clusters")
    exports: ClassVar[tuple[str, ...]] = ("cluster",)
    after_first: ClassVar[tuple[str, ...]] = ("near", "rounds", "per_centre")

    column: str = Field("image_vector", min_length=1)
    k: int | None = Field(None, ge=1, lt=2**31)
    levels: tuple[int, int] | None = None
    rounds: int = Field(20, ge=1)
    share: float = Field(1.0, gt=0, le=1)
    per_centre: int = Field(256, ge=1)
    near: int = Field(1, ge=1, le=64)

    @model_validator(mode="after")
    def _one_aim(self) -> "Kmeans":
        if (self.k is None) == (self.levels is None):
            raise ValueError("give either k or levels")
        if self.levels and not all(1 <= each <= WIDE for each in self.levels):
            raise ValueError(f"levels are two numbers of 1 to {WIDE}")
        return self

    @property
    def adds(self) -> tuple[pa.Field, ...]:  # type: ignore[override]
        near = (pa.field("near_clusters", pa.list_(pa.int32())),) if self.near > 1 else ()
        return (pa.field("cluster", pa.int32()), pa.field("cluster_distance", pa.float32()), *near)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.column,)

    @property
    def _first_k(self) -> int:
        """Clusters that are found from all pairs at once."""
        return self.levels[0] if self.levels else self.k or 0

    @property
    def _most_members(self) -> int:
        return self.levels[1] * self.per_centre if self.levels else 0

    def map(self, pairs: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table:
        """First the smallest draws with their vectors, or (WIDE) how many there are, then counts and sums of clusters;
        of levels at last the vectors of each coarse cluster."""
        vectors, rows = matrix(vectors_of(pairs, self.column))
        uids = whole(pairs.column("uid")).take(pa.array(rows))
        draw = keyed_uniforms(ctx.seed, self.kind, uids.to_pylist())
        used = np.flatnonzero(draw < self.share)
        vectors, draw, uids = vectors[used], draw[used], uids.take(pa.array(used))
        if state is None and self._first_k > WIDE:
            bins, count = np.unique((draw * _BINS).astype(np.int64), return_counts=True)
            return pa.table([bins, count], schema=_BIN_COUNTS)
        if state is None:
            return _smallest(_drawn(draw, uids, vectors, FIRST), self._first_k)
        head = _Head.of(state)
        if head.asks == "first":
            piece = np.searchsorted(head.bins, (draw * _BINS).astype(np.int64), "right") - 1
            there = np.flatnonzero(piece < len(head.bins) - 1)
            found = _drawn(draw[there], uids.take(pa.array(there)), vectors[there], FIRST)
            return found.append_column(PIECE, pa.array(piece[there]))
        mine = units(vectors)
        own, _ = assigned(mine, head.blocks(ctx), gpu_of(ctx.gpus))
        if head.asks == "members":
            found = _drawn(draw, uids, vectors, MEMBERS).append_column(PIECE, pa.array(own))
            return self._fewest(found)
        found = sums_of(mine, own)
        if head.centres:
            return found
        piece = np.searchsorted(head.starts, found.column("cluster").to_numpy(), "right") - 1
        return found.append_column(PIECE, pa.array(piece))

    def merge(self, partials: list[pa.Table]) -> pa.Table:
        names = partials[0].column_names
        if "bin" in names:
            both = pa.concat_tables(partials).group_by("bin", use_threads=False).aggregate([("count", "sum")])
            return both.sort_by("bin").rename_columns(_BIN_COUNTS.names)
        if "draw" in names:
            return _smallest(pa.concat_tables(partials), self._most_members if "member" in names else self._first_k)
        return summed(partials)

    def rounds_of(self, pairs: int) -> tuple[Round, ...]:
        if self.levels:
            return (*(Round(),) * (1 + self.rounds), Round(self.levels[0]))
        pieces = -(-self._first_k // WIDE) if self._first_k > WIDE else 0
        return (Round(), *(Round(pieces),) * (self.rounds + (pieces > 0)))

    def pieces(self, state: pa.Table) -> int:
        head = _Head.of(state)
        if head.asks == "first":
            return len(head.bins) - 1
        if head.asks == "members":
            return len(head.centres)
        return 0 if head.centres else len(head.starts) - 1

    def finish_piece(self, partial: pa.Table | None, piece: int, state: pa.Table, ctx: Context) -> Piece:
        head, rounds = _Head.of(state), 0
        if head.asks == "first":
            drawn = FIRST.empty_table() if partial is None else _smallest(partial, self._first_k - head.starts[piece])
            before = centres = units(from_binary(drawn.column("vector"), _F2))
            count = np.zeros(len(centres), np.int64)
        elif head.asks == "members":
            before = _matrix(head.centres)[piece : piece + 1]
            centres, count, rounds = self._grown(partial, before, ctx)
        else:
            before = from_binary(_piece(ctx, piece).column("centre"), _F4)
            centres, count = moved(SUMS.empty_table() if partial is None else partial, before, head.starts[piece])
        has_moved = not np.array_equal(before, centres)
        first = piece * self.levels[1] if self.levels else head.starts[piece]
        largest = first + int(count.argmax()) if len(count) else first
        told = [len(centres), has_moved, count.min(initial=2**62), count.max(initial=0), largest, rounds]
        return Piece(
            pa.table([binary(centres), count], schema=_CENTRES), pa.table([[int(v)] for v in told], schema=_TOLD)
        )

    def finish(self, partial: pa.Table, state: pa.Table | None, ctx: Context) -> pa.Table | Again:
        if state is None and self._first_k > WIDE:
            head = _begun(partial, self._first_k)
            return Again(head.table()) if head.asks else head.table()
        if state is None:
            centres = list(binary(units(from_binary(partial.column("vector"), _F2))).to_pylist())
            return Again(_Head("move", centres=centres).table()) if centres else _Head().table()
        head = _Head.of(state)
        if head.asks == "first":
            ends = np.cumsum(partial.column("number").to_numpy())
            return Again(_Head("move", starts=[0, *ends.tolist()]).table())
        number, least, most = head.round + 1, 0, 0
        if head.asks == "move" and head.centres:
            before = _matrix(head.centres)
            found, count = moved(partial, before)
            has_moved, least, most = not np.array_equal(before, found), int(count.min()), int(count.max())
            picks = [[at, int(count[at])] for at in spread_by_size(count)]
            head = head._replace(centres=list(binary(found).to_pylist()), picks=picks)
        else:
            has_moved = any(partial.column("moved").to_pylist())
            least, most = pc.min(partial.column("least")).as_py(), pc.max(partial.column("most")).as_py()
            size, largest = (partial.column(name).to_numpy() for name in ("most", "largest"))
            head = head._replace(picks=[[int(largest[at]), int(size[at])] for at in spread_by_size(size)])
        head = head._replace(round=number, least=least, most=most)
        if head.asks == "members":
            deepest = pc.max(partial.column("rounds")).as_py()
            total = pc.sum(partial.column("number")).as_py()
            return head._replace(asks="", round=head.round - 1 + deepest, total=total).table()
        if number < self.rounds and has_moved:
            return Again(head.table())
        if self.levels:
            return Again(head._replace(asks="members").table())
        return head._replace(asks="", total=len(head.centres) or head.starts[-1]).table()

    def judge(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> Verdicts:
        vectors, rows = matrix(vectors_of(pairs, self.column))
        head, mine, on_gpu = _Head.of(state), units(vectors), gpu_of(ctx.gpus)
        if not head.total:  # none is used, by its draw
            mine, rows = mine[:0], rows[:0]
        near: list[Any] = []
        if self.levels:
            found = Levels(_matrix(head.centres), lambda at: _centres_of(ctx, at), self.levels[1])
            own, cosine = found.assigned(mine, on_gpu)
            near = found.nearest(mine, own, self.near) if self.near > 1 else []
        else:
            own, cosine = assigned(mine, head.blocks(ctx), on_gpu)
            near = list(nearest(mine, head.blocks(ctx), min(self.near, head.total))) if self.near > 1 else []
        cluster, distance = np.zeros(pairs.num_rows, np.int32), np.zeros(pairs.num_rows, np.float32)
        cluster[rows], distance[rows] = own, 1.0 - cosine
        none = np.ones(pairs.num_rows, bool)
        none[rows] = False
        columns: list[pa.Array] = [pa.array(cluster, mask=none), pa.array(distance, mask=none)]
        if self.near > 1:
            columns.append(_lists(near, rows, pairs.num_rows))
        return Verdicts(reason=no_reasons(pairs.num_rows), columns=pa.table(columns, schema=pa.schema(self.adds)))

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        head = _Head() if state is None else _Head.of(state)
        if not head.total:
            return []
        text = f"{head.total:,} clusters of {head.least:,} to {head.most:,} pairs after {head.round} rounds."
        return [Section("Clusters", text)]

    def shown(self, pairs: pa.Table, verdicts: Verdicts, state: pa.Table | None) -> list[Scores | Picks]:
        """Pairs of some clusters, by chance."""
        if state is None:
            return []
        cluster = pairs.column("cluster").cast(pa.int64()).fill_null(-1).to_numpy()
        distance = pairs.column("cluster_distance").fill_null(0.0).to_numpy()
        found: list[Scores | Picks] = []
        for place, (each, size) in enumerate(_Head.of(state).picks):
            rows, share = np.flatnonzero(cluster == each), "" if self.share == 1 else " of those looked at"
            title = f"cluster {each}: {size:,} pairs{share}"
            found.append(Picks(title, rows, values=distance[rows], label="distance", place=place))
        return found

    def _fewest(self, members: pa.Table) -> pa.Table:
        """Of each piece those with the smallest draws."""
        members = members.sort_by([(name, "ascending") for name in (PIECE, "draw", "uid")])
        piece = members.column(PIECE).to_numpy()
        place = np.arange(len(piece)) - np.searchsorted(piece, piece)
        return members.filter(pa.array(place < self._most_members))

    def _grown(self, partial: pa.Table | None, coarse: np.ndarray, ctx: Context) -> tuple[np.ndarray, np.ndarray, int]:
        """Centres, counts and rounds of a coarse cluster; one without pairs has its own centre for the only one."""
        if partial is None or self.levels is None:
            return coarse, np.zeros(1, np.int64), 0
        mine = units(from_binary(_smallest(partial, self._most_members).column("member"), _F2))
        return grown(mine, mine[: self.levels[1]], self.rounds, gpu_of(ctx.gpus))


class _Head(NamedTuple):
    """The state. asks: what the next round is for, "" behind the last; round: of Lloyd, done; centres: all of them, or
    the coarse ones, else they are in pieces; bins: of draws, the first of each piece and that behind the last; starts:
    likewise its first centre; total: centres; least, most: pairs of one; picks: numbers and sizes of some, for the
    report (of pieces the largest of some)."""

    asks: str = ""
    round: int = 0
    centres: list[bytes] = []  # noqa: RUF012 (never changed)
    bins: list[int] = []  # noqa: RUF012
    starts: list[int] = []  # noqa: RUF012
    total: int = 0
    least: int = 0
    most: int = 0
    picks: list[list[int]] = []  # noqa: RUF012

    @classmethod
    def of(cls, state: pa.Table) -> "_Head":
        return cls(**state.to_pylist()[0])

    def table(self) -> pa.Table:
        kinds = [pa.string(), pa.int64(), pa.list_(pa.binary()), *[pa.list_(pa.int64())] * 2, *[pa.int64()] * 3]
        kinds.append(pa.list_(pa.list_(pa.int64())))
        return pa.Table.from_pylist([self._asdict()], pa.schema(list(zip(self._fields, kinds, strict=True))))

    def blocks(self, ctx: Context) -> Blocks:
        if not self.starts:
            return blocks_of(_matrix(self.centres))
        at = range(len(self.starts) - 1)
        return lambda: (block for n in at for block in blocks_of(_centres_of(ctx, n), self.starts[n])())


def _begun(counts: pa.Table, k: int) -> _Head:
    """How the first k centres are cut into pieces: by their draws, all of a bin in one."""
    bins, count = (counts.column(name).to_numpy() for name in ("bin", "count"))
    if not len(bins):
        return _Head()
    ends = np.cumsum(count)
    last = min(int(np.searchsorted(ends, k)), len(bins) - 1)
    before = (ends - count)[: last + 1]
    first = np.unique(before // WIDE, return_index=True)[1]
    return _Head("first", bins=[*bins[first].tolist(), int(bins[last]) + 1], starts=[*before[first].tolist(), k])


def _drawn(draw: np.ndarray, uids: pa.Array, vectors: np.ndarray, schema: pa.Schema) -> pa.Table:
    return pa.table([draw, uids, binary(vectors)], schema=schema)


def _smallest(drawn: pa.Table, number: int) -> pa.Table:
    return drawn.sort_by([("draw", "ascending"), ("uid", "ascending")]).slice(0, number).combine_chunks()


def _piece(ctx: Context, number: int) -> pa.Table:
    assert ctx.piece is not None  # a state in pieces comes with them
    return ctx.piece(number)


def _centres_of(ctx: Context, number: int) -> np.ndarray:
    return from_binary(_piece(ctx, number).column("centre"), _F4)


def _matrix(centres: list[bytes]) -> np.ndarray:
    """float32 [centre, value]."""
    return from_binary(pa.array(centres, pa.large_binary()), _F4)


def _lists(values: list[Any], rows: np.ndarray, num: int) -> pa.Array:
    """int32 [row, value] as lists of the rows that they are of; null for the others."""
    lists = pa.array([each.tolist() for each in values], pa.list_(pa.int32()))
    where = np.full(num, -1)
    where[rows] = np.arange(len(rows))
    return lists.take(pa.array(where, mask=where < 0))
