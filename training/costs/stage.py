"""One stage of a run on a cluster: memory, traffic and time of a step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.plan.devices import GIB, Cluster
from pipeline.plan.found import StagePlan
from training.companions import COMPANIONS
from training.costs import timing, traffic, weights
from training.costs.model import Model, Passes, Weights
from training.costs.reading import DECODED_S, Data
from training.terms.cores.tiles import largest_tile

if TYPE_CHECKING:
    from training.settings import TrainSettings

CONTEXT = 2 * GIB
"""What CUDA, cuBLAS and NCCL hold of a device beside tensors: assumed."""
ROOM = 0.95
"""Share of the memory that tensors can fill: the allocator loses some between blocks. Assumed."""
_FEATURES = 4  # features, those of valid rows, gradients, and gradients among zero rows
_TILES = 3  # scores, what is taken off them, and a temporary
_PROCESS = GIB // 2  # Python and torch, on a CPU


@dataclass(frozen=True)
class Shape:
    """What of a stage is known without a cluster; the model is built once for all clusters and chunks."""

    settings: "TrainSettings"
    weights: Weights
    passes: Passes
    width: int


def shape_of(settings: "TrainSettings", ranks: int, model: Model | None = None) -> Shape:
    """RecipeError: towers that cannot be built here."""
    model = model or Model(settings)
    return Shape(settings, model.weights(), model.passes(min(settings.batch.chunk, rows_of(settings, ranks))),
                 model.towers.embed_dim)  # fmt: skip


def rows_of(settings: "TrainSettings", ranks: int) -> int:
    """Of the fullest rank."""
    return -(-settings.batch.global_pairs // ranks)


def stage_plan(shape: Shape, cluster: Cluster, data: Data, first: int, steps: int) -> StagePlan:
    settings, passes, ranks = shape.settings, shape.passes, cluster.ranks
    rows, pairs = rows_of(settings, ranks), settings.batch.global_pairs
    chunk = min(settings.batch.chunk, rows)
    chunks, _ = timing.chunk_shares(rows, chunk)
    moved = traffic.moved(settings, shape.weights, shape.width, chunks, ranks)
    spent = timing.seconds(settings, cluster, shape.weights, passes, moved, rows, shape.width)
    for one in settings.companions:
        if isinstance(one, COMPANIONS["momentum"]):
            spent["companions"] = chunks * timing.work_s(passes.plain or passes.forward, cluster)
    busy_s, reader_s = sum(spent.values()), reading_s(settings, cluster, data)
    step_s = max(busy_s, *reader_s.values())
    useful = passes.forward.flops + min(passes.backward.flops, 2 * passes.forward.flops)
    peak = cluster.device.flops(settings.engine.precision) * ranks
    return StagePlan(
        first=first,
        steps=steps,
        pairs=pairs,
        rows=rows,
        chunk=chunk,
        chunks=chunks,
        zero_stage=settings.engine.zero_stage,
        precision=settings.engine.precision,
        parameters=shape.weights.parameters,
        trained=shape.weights.trained,
        flops=passes.forward.flops / chunk,
        memory=memory(shape, cluster, rows),
        memory_limit=int(ROOM * cluster.device.memory_gib * GIB),
        traffic=moved,
        seconds=spent,
        step_s=step_s,
        waits_for=waits_for(shape, cluster, moved, busy_s, reader_s, chunks),
        samples_per_s=pairs / step_s,
        used=useful / chunk * pairs / step_s / peak,
        reader_mb_s=pairs / busy_s / cluster.nodes * data.pair_bytes / 1e6,
        decode_cores=pairs / busy_s / cluster.nodes / DECODED_S,
    )


def memory(shape: Shape, cluster: Cluster, rows: int) -> dict[str, int]:
    """Bytes of one rank, by what they are for. The last chunk's graph lies there while the loss is computed."""
    settings, ranks = shape.settings, cluster.ranks
    found = weights.held(shape.weights, settings.engine.zero_stage, ranks)
    found["activations"] = shape.passes.peak
    found["rows of the step"] = int(rows * shape.passes.rows)
    found["features"] = int(_FEATURES * rows * shape.passes.outputs)
    found["loss"] = loss_bytes(settings, ranks, shape.width, cluster.device.name)
    found["companions"] = _companions(settings, shape, ranks)
    found["context"] = _PROCESS if cluster.device.name == "cpu" else CONTEXT
    return {name: size for name, size in found.items() if size}


def loss_bytes(settings: "TrainSettings", ranks: int, width: int, device: str = "cuda") -> int:
    """What an exchange holds of all ranks' features (training/README.md, `memory beside the features`), and tiles."""
    B, b, F32 = settings.batch.global_pairs, rows_of(settings, ranks), weights.F32
    total = 0
    for term in traffic.counted(settings):
        tall, wide = largest_tile(device) if term.tile == "auto" else term.sides
        blocks = {"gather": 2 * B, "gather2": 2 * B + 2 * b, "ring": 4 * b}[term.exchange]
        total += F32 * (blocks * width + 4 * B + _TILES * min(tall, B) * min(wide, B))
    return total


def _companions(settings: "TrainSettings", shape: Shape, ranks: int) -> int:
    size = 0
    for one in settings.companions:
        if isinstance(one, COMPANIONS["ema"]):
            size += weights.F32 * shape.weights.trained // ranks
        elif isinstance(one, COMPANIONS["momentum"]):
            size += weights.F32 * shape.weights.parameters + shape.weights.buffers
            size += one.queue * (2 * weights.F32 * shape.width + 8) // ranks
    return size


def reading_s(settings: "TrainSettings", cluster: Cluster, data: Data) -> dict[str, float]:
    """Seconds of a step by what may hold the reader up."""
    pairs = settings.batch.global_pairs / cluster.nodes
    cores = min(cluster.cores, cluster.per_node * max(settings.reader.workers, 1) * settings.reader.threads)
    return {
        "storage": pairs * data.pair_bytes / (cluster.storage_gb_s * 1e9),
        "decoding": pairs / DECODED_S / cores,
    }


def waits_for(
    shape: Shape, cluster: Cluster, moved: dict[str, int], busy_s: float, reader_s: dict[str, float], chunks: int
) -> str:
    """What would make a step shorter if it were faster: storage, decoding, network, host or device."""
    slowest = max(reader_s, key=lambda name: reader_s[name])
    if reader_s[slowest] > busy_s:
        return slowest
    passes = (shape.passes.plain, shape.passes.forward, shape.passes.backward)
    host = chunks * sum(
        timing.host_s(one) for one in passes if timing.host_s(one) >= timing.work_s(one, cluster) and one.number
    )
    shares = {"network": timing.wire_s(sum(moved.values()), cluster), "host": host}
    shares["device"] = busy_s - sum(shares.values())
    return max(shares, key=lambda name: shares[name])
