"""A plan for a person: what it comes to, where it goes, what does not fit."""

from collections.abc import Callable, Iterator, Mapping

from rich.markup import escape
from rich.table import Table

from pipeline.plan.found import CurationPlan, Plan, StagePlan, TrainPlan
from pipeline.plan.words import bytes_text, count_text, gib_text, share_text, time_text

_LEVELS = {"stop": "does not work", "slow": "waits", "note": "note"}


def rendered(plan: Plan) -> list[Table | str]:
    """For the terminal, one below the other. Lines of text are plain, without markup."""
    found: list[Table | str] = [f"{plan.name} on {plan.cluster['in_words']}"]
    if plan.curation:
        found.append(_table(_of_curation(plan.curation)))
    if plan.training:
        several = len(plan.training.stages) > 1
        for number, stage in enumerate(plan.training.stages, 1):
            if several:
                found.append(f"stage {number}: {stage.steps:,} steps from step {stage.first:,}")
            found.append(_table(_of_stage(stage, plan.training)))
        found.append(_table(_of_training(plan)))
    for note in sorted(plan.every_note, key=lambda each: list(_LEVELS).index(each.level)):
        found.append(f"{_LEVELS[note.level]}: {note.found}")
        if note.fix:
            found.append(f"  type: {note.fix}")
    if plan.training:
        found += [f"assumed: {words}" for words in plan.training.assumed]
    return found


def _table(rows: Iterator[tuple[str, str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, min_width=18)
    table.add_column(justify="right", no_wrap=True, min_width=13)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _of_curation(found: CurationPlan) -> Iterator[tuple[str, str, str]]:
    cost = found.cost
    yield "pairs of the crawl", count_text(found.pairs), found.counted
    yield "tasks", count_text(cost["tasks"]), f"{found.parts:,} parts, {found.buckets:,} buckets"
    yield "files, reads", count_text(cost["files"]), f"{count_text(cost['reads'])} reads"
    yield "written", bytes_text(found.bytes), "pool and working folder, about twice read"
    yield "largest task", gib_text(found.memory), "of memory"
    yield "curation", time_text(3600 * found.hours), "without what pictures, models and downloads take"


def _of_stage(stage: StagePlan, whole: TrainPlan) -> Iterator[tuple[str, str, str]]:
    locked = "" if stage.trained == stage.parameters else f", {count_text(stage.trained)} of them trained"
    yield "model", count_text(stage.parameters), f"parameters{locked}, {stage.flops / 1e9:,.3g} GFLOP a pair forward"
    chunks = f"{stage.rows:,} a rank in {stage.chunks} chunks of {stage.chunk}" if stage.chunks > 1 else "one chunk"
    yield "step", f"{stage.pairs:,}", f"pairs, {chunks}, ZeRO {stage.zero_stage}, {stage.precision}"
    yield "memory", gib_text(stage.held), f"of {gib_text(stage.memory_limit)}: {_shares(stage.memory, gib_text)}"
    moved = sum(stage.traffic.values())
    counted = {name: cost for name, cost in stage.terms.items() if "not_counted" not in cost}
    own = sum(int(cost["parameters"]) for cost in counted.values())
    if own:
        yield "weights of terms", count_text(own), "parameters beside the model's, with an optimizer of their own"
    yield "received", bytes_text(moved), f"a step and rank: {_shares(stage.traffic, bytes_text)}"
    yield "time of a step", time_text(stage.step_s), _shares(stage.seconds, time_text)
    speed = f"pairs/s, waits for {stage.waits_for}, {share_text(stage.used, 1)} of the peak"
    yield "speed", f"{stage.samples_per_s:,.0f}", speed
    of = "of the manifest" if whole.data_pairs is not None else "assumed"
    cores = f"a node ({whole.pair_bytes / 1000:.3g} kB a pair, {of}), {stage.decode_cores:,.1f} cores that decode"
    yield "reader", f"{stage.reader_mb_s:,.0f} MB/s", cores


def _of_training(plan: Plan) -> Iterator[tuple[str, str, str]]:
    found = plan.training
    assert found is not None
    save = found.save
    every = f"every {time_text(save.every_s)}" if save.every_s is not None else "by steps"
    yield "checkpoint", bytes_text(save.bytes), f"{time_text(save.seconds)}, {every}, {save.number:,} in all"
    lost = f"{save.failures:.2g} failures expected" if save.failures >= 0.005 else "no failure expected"
    epochs = f", {found.pairs / found.data_pairs:.3g} epochs" if found.data_pairs else ""
    yield "training", time_text(found.total_s), f"{count_text(found.pairs)} pairs{epochs}, {lost}"
    money = "" if plan.money is None else f"{plan.money:,.0f} at {plan.cluster['price']:g} an hour"
    yield "device hours", f"{plan.gpu_hours:,.3g}", money
    if plan.storage:
        yield "storage", bytes_text(sum(plan.storage.values())), _shares(plan.storage, bytes_text)


def _shares(parts: Mapping[str, float], text: Callable[[float], str]) -> str:
    """The parts, largest first, without those of less than a hundredth."""
    least = 0.01 * sum(parts.values())
    large = sorted((item for item in parts.items() if item[1] > least), key=lambda item: -item[1])
    return ", ".join(f"{name} {text(value)}" for name, value in large)
