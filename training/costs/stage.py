"""One stage of a run on a cluster: memory, traffic and time of a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.plan.devices import GIB, Cluster
from pipeline.plan.found import StagePlan
from training.costs import timing, traffic, weights
from training.costs.company import Company, company_of
from training.costs.model import Model, Passes, Weights, ever_on
from training.costs.reading import DECODED_S, Data
from training.costs.saving import Beside
from training.step.objective import build_objective
from training.terms.cores.tiles import largest_tile
from training.terms.costs import NotCounted, StepSizes, TermCost
from training.terms.term import TermSettings

if TYPE_CHECKING:
    from training.settings import TrainSettings

CONTEXT = 2 * GIB
"""What CUDA, cuBLAS and NCCL hold of a device beside tensors: assumed."""
ROOM = 0.95
"""Share of the memory that tensors can fill: the allocator loses some between blocks. Assumed."""
_FEATURES = 4  # features, those of valid rows, gradients, and gradients among zero rows
_PROCESS = GIB // 2  # Python and torch, on a CPU


@dataclass(frozen=True)
class Shape:
    """What of a stage is known without a cluster; the model is built once for all clusters and chunks."""

    settings: "TrainSettings"
    weights: Weights
    passes: Passes
    company: tuple[Company, ...] = ()
    chunk_terms: int = 0


def shape_of(settings: "TrainSettings", ranks: int, model: Model | None = None) -> Shape:
    """RecipeError: towers that cannot be built here."""
    model = model or Model(settings)
    chunk = min(settings.batch.chunk, rows_of(settings, ranks))
    chunk_terms = len(build_objective(model.loss).chunk_terms)
    return Shape(settings, model.weights(), model.passes(chunk), company_of(model, chunk), chunk_terms)


def rows_of(settings: "TrainSettings", ranks: int) -> int:
    """Of the fullest rank."""
    return -(-settings.batch.global_pairs // ranks)


def stage_plan(shape: Shape, cluster: Cluster, data: Data, first: int, steps: int) -> StagePlan:
    settings, passes, ranks = shape.settings, shape.passes, cluster.ranks
    rows, pairs = rows_of(settings, ranks), settings.batch.global_pairs
    chunk = min(settings.batch.chunk, rows)
    chunks, _ = timing.chunk_shares(rows, chunk)
    terms = term_costs(shape, ranks, cluster.device.name)
    moved = moved_by(shape, ranks, terms)
    spent = timing.seconds(settings, cluster, shape.weights, passes, moved, rows, known(terms))
    if shape.company:
        looks = sum(timing.work_s(one.look.work, cluster) for one in shape.company)
        spent["companions"] = chunks * looks + timing.wire_s(moved.get("companions", 0), cluster)
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
        terms={name: _as_data(cost) for name, cost in terms.items()},
        seconds=spent,
        step_s=step_s,
        waits_for=waits_for(shape, cluster, moved, busy_s, reader_s, chunks),
        samples_per_s=pairs / step_s,
        used=useful / chunk * pairs / step_s / peak,
        reader_mb_s=pairs / busy_s / cluster.nodes * data.pair_bytes / 1e6,
        decode_cores=pairs / busy_s / cluster.nodes / DECODED_S,
    )


def moved_by(shape: Shape, ranks: int, terms: Mapping[str, TermCost | str]) -> dict[str, int]:
    """Bytes that a rank receives in a step."""
    settings, pairs = shape.settings, shape.settings.batch.global_pairs
    rows = rows_of(settings, ranks)
    chunks, _ = timing.chunk_shares(rows, min(settings.batch.chunk, rows))
    found = traffic.moved(settings.engine.zero_stage, shape.weights, chunks, ranks)
    found["loss"] = sum(one.moved for one in known(terms)) + traffic.of_chunk_terms(shape.chunk_terms, ranks)
    found["companions"] = sum(one.moved(pairs, ranks) for one in shape.company)
    return found if found["companions"] else {name: size for name, size in found.items() if name != "companions"}


def memory(shape: Shape, cluster: Cluster, rows: int) -> dict[str, int]:
    """Bytes of one rank, by what they are for. The last chunk's graph lies there while the loss is computed."""
    settings, ranks = shape.settings, cluster.ranks
    found = weights.held(shape.weights, settings.engine.zero_stage, ranks)
    found["activations"] = max(shape.passes.peak, *(one.look.peak for one in shape.company), 0)
    found["rows of the step"] = int(rows * shape.passes.rows)
    found["features"] = int(_FEATURES * rows * shape.passes.outputs)
    terms = known(term_costs(shape, ranks, cluster.device.name))
    found["loss"] = max((one.held for one in terms), default=0)  # one at a time
    found["weights of terms"] = sum(one.trained.held for one in terms)
    pairs, stage = settings.batch.global_pairs, settings.engine.zero_stage
    found["companions"] = sum(one.held(shape.weights, stage, ranks, pairs) for one in shape.company)
    found["context"] = _PROCESS if cluster.device.name == "cpu" else CONTEXT
    return {name: size for name, size in found.items() if size}


def term_costs(shape: Shape, ranks: int, device: str = "cuda") -> dict[str, TermCost | str]:
    """Of each term that weighs something at some time: what it costs, or why that is not known."""
    settings, pairs = shape.settings, shape.settings.batch.global_pairs
    shapes = shape.passes.shapes | {n: (width,) for one in shape.company for n, width in one.widths.items()}
    queues = {one.called: one.queued(pairs, ranks) for one in shape.company}
    at = StepSizes(ranks, pairs, shapes, queues, largest_tile(device))
    return {term.called: _cost_of(term, at) for term in ever_on(settings.loss)}


def _cost_of(term: TermSettings, at: StepSizes) -> TermCost | str:
    try:
        return term.costs(at) or "it does not say what it costs"
    except NotCounted as reason:
        return str(reason)


def _as_data(cost: TermCost | str) -> dict[str, int | str]:
    if isinstance(cost, str):
        return {"not_counted": cost}
    numbers = {"received": cost.moved, "flops": cost.flops, "held": cost.held}
    return {**numbers, "parameters": cost.trained.whole, "weights_held": cost.trained.held}


def known(costs: Mapping[str, TermCost | str]) -> list[TermCost]:
    return [cost for cost in costs.values() if isinstance(cost, TermCost)]


def beside(shape: Shape, ranks: int) -> Beside:
    """What a checkpoint has beside the model."""
    trained = [cost.trained for cost in known(term_costs(shape, ranks))]
    size = sum(one.saved for one in trained) + sum(one.saved(shape.weights) for one in shape.company)
    return Beside(size, sum(one.tensors for one in trained) + sum(one.tensors for one in shape.company))


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
