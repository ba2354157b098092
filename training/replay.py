"""Looking at the order, and proving it: which pairs a step uses, and whether a finished run used those."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline import storage
from pipeline.draws import hashed_u64
from pipeline.errors import DataError, UsageError
from pipeline.outputs import CACHE, METRICS
from pipeline.progress import progress
from training.reader.captions.policy import draw_caption
from training.reader.digest import step_digest
from training.reader.order import Order
from training.reader.pairs import Pairs, open_pairs
from training.scheduled import progress_of

if TYPE_CHECKING:
    from training.settings import TrainSettings


@dataclass(frozen=True)
class ShownPair:
    """One row of a step's global batch."""

    lane: int
    epoch: int
    uid: str
    shard: str
    key: str
    caption: str


@dataclass(frozen=True)
class Verified:
    """`steps`: steps of the log; `wrong`: those whose digest is not that of the order."""

    steps: int
    wrong: list[int]


def show(settings: "TrainSettings", seed: int, step: int) -> list[ShownPair]:
    """The pairs and captions that `step` (counted from 0) uses, on any number of processes.

    Raises UsageError when the run has no such step, DataError as `open_pairs`.
    """
    if not 0 <= step < settings.steps:
        raise UsageError(f"step {step}", "the run has no such step", f"expected 0 to {settings.steps - 1}", "--step 0")
    pairs, orders = _opened(settings, seed)
    drawn = orders(step).draw(step)
    raw = pairs.read(drawn.shard, drawn.row)
    done = progress_of(step, settings.steps)
    rows = zip(drawn.lane.tolist(), drawn.epoch.tolist(), drawn.shard.tolist(), raw, strict=True)
    return [
        ShownPair(
            lane, epoch, pair.uid, pairs.shard_name(shard), pair.key,
            draw_caption(settings.plan.resolved(step).captions, pair.meta["captions"], seed, epoch, pair.uid, done),
        )
        for lane, epoch, shard, pair in rows
    ]  # fmt: skip


def verify(settings: "TrainSettings", seed: int) -> Verified:
    """Re-derives the digest of every step in <train.output>/metrics.jsonl from recipe and data alone.

    Raises DataError when there is no log, a line of it is not one, or steps are missing from it.
    """
    log = Path(settings.output) / METRICS
    logged = _digests(log)
    pairs, orders = _opened(settings, seed)
    words: dict[int, np.ndarray] = {}
    wrong = []
    with progress(len(logged), "verify", "steps") as meter:
        for step, digest in logged:
            if _expected(pairs, orders(step), step, words) != digest:
                wrong.append(step)
            meter.advance()
    return Verified(len({step for step, _ in logged}), wrong)


def _opened(settings: "TrainSettings", seed: int) -> tuple[Pairs, Callable[[int], Order]]:
    """The pairs, and the order of a step: another one in each stage of the run."""
    pairs, plan = open_pairs(settings.data, str(Path(settings.output) / CACHE)), settings.plan

    @functools.cache
    def of_stage(number: int) -> Order:
        start = plan.start_of(number)
        batch, origin = plan.every[number].batch.global_pairs, plan.origin(start)
        options = {"global_batch": batch, "lanes": plan.lanes, "window": settings.reader.window, "origin": origin}
        return Order(pairs.shard_pairs, seed=seed, **options)

    return pairs, lambda step: of_stage(plan.number_at(step))


def _expected(pairs: Pairs, order: Order, step: int, words: dict[int, np.ndarray]) -> str:
    """`words`: what is known so far of the hashed uids, by shard; 8 bytes per pair."""
    drawn = order.draw(step)
    total = 0
    for shard in np.unique(drawn.shard).tolist():
        if shard not in words:
            every = np.arange(pairs.shard_pairs[shard])
            words[shard] = hashed_u64(pairs.uids(np.full_like(every, shard), every))
        total += int(words[shard][drawn.row[drawn.shard == shard]].sum(dtype=np.uint64))
    return step_digest(total, len(drawn))


def _digests(log: Path) -> list[tuple[int, str]]:
    """(step, digest) of every line; a last line cut by a crash is no line."""
    if not log.is_file():
        raise DataError(str(log), "does not exist", "expected the log of a run", "clipmill train RECIPE writes it")
    logged = []
    for line in storage.json_lines(str(log)):
        if not line.whole:
            continue
        try:
            logged.append((int((line.row or {})["step"]), str((line.row or {})["digest"])))
        except (ValueError, KeyError, TypeError):
            where = f"{log}, line {line.number}"
            raise DataError(where, "no step and digest", "expected one JSON object a step") from None
    steps = {step for step, _ in logged}
    missing = sorted(set(range(max(steps, default=-1) + 1)) - steps)
    if missing:
        raise DataError(str(log), f"{len(missing)} steps are missing, the first is {missing[0]}", "expected every step")
    return logged
