"""What does not fit, or waits for something: in words, with what to type. Every cure is tried by the same formulae."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pipeline.plan.devices import GIB, Cluster
from pipeline.plan.found import Note, StagePlan
from pipeline.plan.words import bytes_text, gib_text, share_text
from training.costs import timing
from training.costs.stage import ROOM, Shape, memory, rows_of, shape_of

_SMALLER = "smaller pictures in the shards: curate.emit.resize='{min_side: 256}'"
_LEAST_CHUNK = 4
_MOST_CHUNK = 4096
_WIRE_SHARE = 0.25
"""Of a step: beyond it the network is worth a word."""


def notes_of(shape: Shape, plan: StagePlan, cluster: Cluster, where: str) -> Iterator[Note]:
    """`where`: before the words, such as "stage 2: "."""
    if plan.pairs < cluster.ranks:
        found = f"{where}{plan.pairs} pairs a step for {cluster.ranks} ranks: some have none"
        yield Note("stop", found, f"train.batch.global={64 * cluster.ranks}, or fewer nodes")
        return
    if not plan.fits:
        yield _does_not_fit(shape, plan, cluster, where)
    else:
        yield from _host(shape, plan, cluster, where)
    yield from _network(shape, plan, where)
    yield from _reader(shape, plan, cluster, where)


def _does_not_fit(shape: Shape, plan: StagePlan, cluster: Cluster, where: str) -> Note:
    most = max(plan.memory, key=lambda name: plan.memory[name])
    found = (
        f"{where}does not fit: {gib_text(plan.held)} of {gib_text(plan.memory_limit)} on each {cluster.device.name}; "
        f"most of it {most}, {gib_text(plan.memory[most])}"
    )
    tried = shape
    words: list[str] = []
    for word, change in _cures(shape, cluster):
        changed = change(tried)
        if changed is None:
            continue
        before, tried = sum(memory(tried, cluster, plan.rows).values()), changed
        held = sum(memory(tried, cluster, plan.rows).values())
        if held >= before:
            tried = shape
            continue
        words.append(word or f"train.batch.chunk={tried.settings.batch.chunk}")
        if held <= plan.memory_limit:
            return Note("stop", found, f"{' '.join(words)} ({gib_text(held)} then)")
    return Note("stop", found, "a device with more memory, more nodes, or a smaller model: no setting makes it fit")


def _cures(shape: Shape, cluster: Cluster) -> Iterator[tuple[str, Any]]:
    """Words to type and what they do to a shape, each on top of those before it; None: nothing."""

    def precision(at: Shape) -> Shape | None:
        if at.settings.engine.precision == "bf16" or cluster.device.name == "cpu":
            return None
        return _anew(at, cluster, "engine", precision="bf16")

    def spread(at: Shape) -> Shape | None:
        return None if at.settings.engine.zero_stage else _anew(at, cluster, "engine", zero_stage=1)

    def checkpointed(at: Shape) -> Shape | None:
        return None if at.settings.model.grad_checkpointing else _anew(at, cluster, "model", grad_checkpointing=True)

    def third(at: Shape) -> Shape | None:
        return None if at.settings.engine.zero_stage == 3 else _anew(at, cluster, "engine", zero_stage=3)

    yield "train.engine.precision=bf16", precision
    yield "train.engine.zero_stage=1", spread
    yield "", lambda at: _smaller_chunk(at, cluster)
    yield "train.model.grad_checkpointing=true", checkpointed
    yield "train.engine.zero_stage=3", third
    yield "", lambda at: _smaller_chunk(at, cluster)


def _anew(shape: Shape, cluster: Cluster, section: str, **changes: Any) -> Shape:
    """Of other settings; without looking at the towers again where only the ZeRO stage is another."""
    before: Any = getattr(shape.settings, section)
    settings = shape.settings.model_copy(update={section: before.model_copy(update=changes)})
    if set(changes) == {"zero_stage"}:
        return replace(shape, settings=settings)
    return shape_of(settings, cluster.ranks)


def _smaller_chunk(shape: Shape, cluster: Cluster) -> Shape | None:
    """The largest chunk, a power of two, whose activations have room beside all else."""
    rows = rows_of(shape.settings, cluster.ranks)
    chunk = min(shape.settings.batch.chunk, rows)
    held = memory(shape, cluster, rows)
    limit = int(ROOM * cluster.device.memory_gib * GIB) - sum(held.values()) + held["activations"]
    wanted = _power_of_two(chunk * limit / held["activations"])
    if wanted >= chunk or wanted < _LEAST_CHUNK:
        return None
    return _anew(shape, cluster, "batch", chunk=wanted)


def _host(shape: Shape, plan: StagePlan, cluster: Cluster, where: str) -> Iterator[Note]:
    """The device waits for operations: a larger chunk has as many of them for more pairs."""
    if plan.waits_for != "host" or plan.chunks == 1:
        return
    forward = shape.passes.forward
    enough = plan.chunk * timing.host_s(forward) / timing.device_s(forward, cluster)
    room = (plan.memory_limit - plan.held + plan.memory["activations"]) / plan.memory["activations"]
    wanted = _power_of_two(min(plan.chunk * room, 2 * enough, plan.rows, _MOST_CHUNK))
    if wanted > plan.chunk:
        found = f"{where}chunks of {plan.chunk} pairs are so small that {cluster.device.name} waits for Python"
        yield Note("slow", found, f"train.batch.chunk={wanted}")


def _network(shape: Shape, plan: StagePlan, where: str) -> Iterator[Note]:
    if plan.waits_for != "network" and plan.seconds["reduction"] < _WIRE_SHARE * plan.step_s:
        return
    most = max(plan.traffic, key=lambda name: plan.traffic[name])
    share = share_text(plan.seconds["reduction"], plan.step_s)
    found = (
        f"{where}{share} of a step goes by while gradients and parameters travel: {bytes_text(plan.traffic[most])} "
        f"of {most} a rank"
    )
    if most == "parameters" and plan.zero_stage == 3:
        fix = f"train.engine.zero_stage=1 where it fits, or train.batch.chunk={2 * plan.chunk}: fewer forwards"
    elif most == "loss" and any(getattr(term, "wire", "") == "fp32" for term in shape.settings.loss):
        fix = "train.loss.wire=bf16"
    else:
        fix = f"train.batch.global={2 * plan.pairs}: more pairs for each reduction; or fewer nodes"
    yield Note("slow", found, fix)


def _reader(shape: Shape, plan: StagePlan, cluster: Cluster, where: str) -> Iterator[Note]:
    if plan.waits_for == "storage":
        found = (
            f"{where}the devices could take {plan.reader_mb_s:,.0f} MB/s of shards on each node, which reads "
            f"{1000 * cluster.storage_gb_s:,.0f}"
        )
        yield Note("slow", found, f"shards on the nodes' own disks, or {_SMALLER}")
    elif plan.waits_for == "decoding":
        reader = shape.settings.reader
        started = cluster.per_node * max(reader.workers, 1) * reader.threads
        found = f"{where}decoding takes {plan.decode_cores:,.0f} cores of each node"
        if started < min(cluster.cores, plan.decode_cores):
            workers = -(-min(cluster.cores, int(plan.decode_cores) + 1) // (cluster.per_node * reader.threads))
            yield Note("slow", f"{found}, and the reader starts {started} threads", f"train.reader.workers={workers}")
        else:
            fix = _SMALLER
            yield Note("slow", f"{found}, which has {cluster.cores}", fix)


def _power_of_two(value: float) -> int:
    """At most `value`."""
    return 1 << max(0, int(value).bit_length() - 1) if value >= 1 else 0
