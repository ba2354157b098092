"""A run on a cluster before it begins: every stage of it, its checkpoints, and what there is to say."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import RecipeError
from pipeline.plan.devices import Cluster
from pipeline.plan.found import Note, StagePlan, TrainPlan
from pipeline.settings import digest_of
from training.costs import timing
from training.costs.advice import notes_of
from training.costs.reading import PAIR_BYTES, Data, data_of
from training.costs.saving import saves
from training.costs.stage import Shape, beside, rows_of, shape_of, stage_plan
from training.towers.config import WHERE

if TYPE_CHECKING:
    from training.settings import TrainSettings


def foretell(settings: "TrainSettings", cluster: Cluster) -> TrainPlan | Note:
    """A note where this machine cannot build the towers (a package or a file of a hub is not here); DataError: a
    manifest is damaged."""
    try:
        return _foretold(settings, cluster)
    except RecipeError as error:
        if not error.where.startswith(WHERE):
            raise
        words = f"{error.where}: {error.found}" + (f"; {error.expected}" if error.expected else "")
        return Note("note", f"training is not foretold: {words}", error.hint)


def _foretold(settings: "TrainSettings", cluster: Cluster) -> TrainPlan:
    data, plan = data_of(settings), settings.plan
    stages: list[StagePlan] = []
    notes: list[Note] = []
    shapes: dict[str, Shape] = {}
    for number, (stage, now) in enumerate(zip(plan.stages, plan.every, strict=True)):
        looked = [now.model, now.loss, now.optimizer, now.engine, min(now.batch.chunk, rows_of(now, cluster.ranks))]
        key = digest_of(looked)
        if key not in shapes:  # of stages that differ in the number of pairs alone, once
            shapes[key] = shape_of(now, cluster.ranks)
        shape = replace(shapes[key], settings=now)
        start = plan.start_of(number)
        stages.append(stage_plan(shape, cluster, data, start, stage.until - start))
        where = f"stage {number + 1}: " if len(plan.stages) > 1 else ""
        notes += notes_of(shape, stages[-1], cluster, where)
    train_s = sum(each.steps * each.step_s for each in stages)
    save = saves(settings, cluster, shape.weights, beside(shape, cluster.ranks), train_s)
    return TrainPlan(
        stages=tuple(stages),
        save=save,
        pairs=plan.pairs_before(settings.steps),
        data_pairs=data.pairs,
        data_bytes=data.bytes,
        pair_bytes=data.pair_bytes,
        train_s=train_s,
        total_s=train_s + save.number * save.seconds + save.lost_s,
        notes=(*notes, *_not_counted(settings, stages, shapes.values(), data)),
        assumed=_assumed(cluster),
    )


def _not_counted(
    settings: "TrainSettings", stages: Iterable[StagePlan], shapes: Iterable[Shape], data: Data
) -> Iterator[Note]:
    """By name, and why."""
    terms = {
        name: cost["not_counted"] for stage in stages for name, cost in stage.terms.items() if "not_counted" in cost
    }
    for name, why in terms.items():
        yield Note("note", f"not counted: what {name} of train.loss exchanges and computes between the passes: {why}")
    company = {one.called: one.reason for shape in shapes for one in shape.company if one.reason}
    for name, why in company.items():
        yield Note("note", f"not counted: memory and forwards of {name} in train.companions: {why}")
    if settings.eval.every_steps:
        yield Note("note", "not counted: evaluations in the loop")
    if data.pairs is None:
        yield Note("note", f"train.data is not finished yet: {PAIR_BYTES / 1000:.0f} kB a pair are taken for granted")


def _assumed(cluster: Cluster) -> tuple[str, ...]:
    """What the figures stand on, in words."""
    device = cluster.device
    return (
        f"{cluster.used:.0%} of {device.bf16_tflops:,g} TFLOP/s bf16 and {device.fp32_tflops:,g} fp32, "
        f"{timing.MEMORY:.0%} of {device.memory_gb_s:,g} GB/s of memory, {timing.HOST_S * 1e6:g} us of Python a kernel",
        f"{timing.WIRE:.0%} of {cluster.wire_gb_s:,g} GB/s between ranks, {cluster.storage_gb_s:g} GB/s of storage and "
        f"{cluster.cores} cores a node",
    )
