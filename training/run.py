"""A training run between its steps: recorded, saved, evaluated. All methods are collective."""

import math
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch

from pipeline.cluster.rundir.feed import Feed
from pipeline.errors import DataError
from pipeline.log import get_logger
from pipeline.outputs import CHECKPOINTS, EVALS, METRICS
from pipeline.storage.files import publish_json
from training.changes.kept import as_kept
from training.checkpoint.clock import SaveClock
from training.checkpoint.layout import step_name
from training.checkpoint.save import save
from training.checkpoint.train_state import Goodput, TrainState
from training.companions.running.companion import Companions
from training.companions.running.ema import RunningEma
from training.engine.interface import Engine
from training.evals.evaluation import Evaluation, as_results
from training.evals.model import Model
from training.output.folder import note_saved
from training.output.metrics import JsonLines, peak_memory_mb
from training.plan.plan import Plan
from training.ranks.agreement import on_first_rank
from training.ranks.environment import job_of
from training.ranks.peers import Peers
from training.reader.batch import Batch
from training.reader.digest import digest_part, step_digest
from training.reader.reader import Reader
from training.settings import TrainSettings
from training.step.grad_cache import StepResult
from training.step.objective import Objective
from training.terms.cores.tiles import Tiles

log = get_logger("train")
_SAVE_S, _SPARE_S = 30.0, 30.0
"""Before the first save: what one may cost. Left over of the time limit after the last: for the ranks to end."""


@dataclass
class Run:
    """What the loop needs from step to step. `start` is the first step of this process, `until` where its stage ends.

    `settings` are those of the stage.
    """

    plan: Plan
    settings: TrainSettings
    engine: Engine
    reader: Reader
    objective: Objective
    companions: Companions
    sets: list[Evaluation]
    recipe_digest: str
    start: int
    until: int
    clock: SaveClock
    rejected: tuple[str, ...]
    goodput: dict[str, float]
    tiles: Tiles
    feed: Feed
    logs: dict[str, JsonLines] = field(default_factory=dict)  # rank 0 only
    nonfinite: int = 0
    nonfinite_in_a_row: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    _step_ended: float = field(default_factory=time.perf_counter)
    _longest_s: float = 0.0

    @property
    def peers(self) -> Peers:
        return self.engine.peers

    def samples(self, steps: int) -> int:
        return self.plan.pairs_before(steps)

    def __enter__(self) -> "Run":
        if self.peers.rank == 0:
            output = self.settings.output_path
            self.logs = {
                METRICS: JsonLines(output / METRICS, self.start, every_step=True),
                EVALS: JsonLines(output / EVALS, self.start + 1),
            }
        self._step_ended = time.perf_counter()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for lines in self.logs.values():
            lines.__exit__(kind, error, trace)

    def record(self, step: int, batch: Batch, result: StepResult, lr: float, fetch_s: float) -> None:
        """One line in metrics.jsonl; a non-finite step's pairs in a file of their own. DataError: too many of those."""
        part = torch.tensor([digest_part(batch.uids), batch.size], dtype=torch.int64, device=self.peers.device)
        digest, rows = self.peers.all_sum(part).tolist()
        now = time.perf_counter()
        seconds, self._step_ended = now - self._step_ended, now
        self.goodput["train_s"] += seconds
        self._longest_s = max(self._longest_s, seconds)
        scalars = self.engine.scalars()
        self.last = {
            "step": step,
            "samples": self.samples(step + 1),
            "loss": result.loss,
            "digest": step_digest(digest, rows),
            "logit_scale": math.exp(scalars.pop("log_scale")),
            **scalars,
            "lr": lr,
            "samples_per_s": rows / seconds,
            "grad_norm": result.grad_norm,
            **result.metrics,
            "pairs": result.pairs,
            "skipped": result.skipped,
            "time_fetch_s": fetch_s,
            **{f"time_{name}_s": value for name, value in result.timings.items()},
            "memory_mb": peak_memory_mb(self.peers.device),
            "epoch": self.reader.order.epoch_at(step),
        }
        if self.peers.rank == 0 and not self.feed.was_overtaken():
            self.logs[METRICS].write(self.last)
        self._beat(step + 1)
        self.nonfinite_in_a_row = self.nonfinite_in_a_row + 1 if result.skipped else 0
        if result.skipped:
            self._dump_nonfinite(step, batch, result)

    def _dump_nonfinite(self, step: int, batch: Batch, result: StepResult) -> None:
        self.nonfinite += 1
        uids = [uid for part in self.peers.gather_object(batch.uids) for uid in part]
        path = self.settings.output_path / f"nonfinite-step-{step}.json"
        found = {"step": step, "loss": str(result.loss), "grad_norm": str(result.grad_norm), "uids": uids}
        on_first_rank(self.peers, lambda: publish_json(str(path), found))
        in_a_row, limit = self.nonfinite_in_a_row, self.settings.max_nonfinite
        words = f"loss {result.loss} and gradient norm {result.grad_norm}, {in_a_row} such steps in a row"
        if self.settings.on_nonfinite == "stop" or in_a_row >= limit:
            hint = "lower train.optimizer.lr or train.engine.grad_clip, then run the same command again"
            raise DataError(f"step {step}", words, f"finite numbers; the pairs of the step are in {path}", hint)
        if self.peers.rank == 0:
            log.warning("step %d skipped: %s; its pairs are in %s", step, words, path)

    def _beat(self, done: int) -> None:
        speed = self.last["samples_per_s"]
        left = self.samples(self.settings.steps) - self.last["samples"]
        known = {"samples": self.last["samples"], "samples_per_s": speed, "eta_s": left / speed}
        self.feed.beat(done, steps=self.settings.steps, **known)

    def in_words(self) -> str:
        return f"loss {self.last['loss']:.4f}, {self.last['samples_per_s']:,.0f} pairs/s"

    def agreed(self, signal_number: int, save_due: bool) -> tuple[int, bool]:
        """(signal that any rank received or what the run directory asks, whether rank 0 is to save), the same on every
        rank."""
        margin_s = 2 * (self._longest_s + (self.clock.cost_s or _SAVE_S)) + _SPARE_S
        reason = max(signal_number, self.feed.asked(margin_s))
        mine = [reason, int((save_due or self.feed.save_asked()) and self.peers.rank == 0)]
        signal_number, due = self.peers.all_max(torch.tensor(mine, device=self.peers.device)).tolist()
        return signal_number, bool(due)

    def eval_due(self, done: int) -> bool:
        every = self.settings.eval.every_steps
        return bool(self.sets) and every is not None and (done % every == 0 or done == self.settings.steps)

    def evaluate(self, done: int) -> None:
        """Scores the sets; a line in evals.jsonl."""
        self.peers.place.enter("evaluation")
        started = time.perf_counter()
        towers, batch = self.engine.towers, self.settings.eval.batch
        model = Model(self.engine.evaluate, towers, self.settings.image, self.peers, batch)
        results: dict[str, float] = {}
        of = self.settings.eval.of
        if of != "ema":
            results |= self._scores(model, "")
        for average in self.companions.of(RunningEma) if of != "weights" else ():
            with self.engine.lent(average.whole):
                results |= self._scores(model, f"{average.name}/")
        if self.peers.rank == 0:
            self.logs[EVALS].write({"step": done, "eval": results})
            log.info("step %d: %s", done, ", ".join(f"{name} {value:.4f}" for name, value in results.items()))
        self._pause("eval_s", started)

    def _scores(self, model: Model, prefix: str) -> dict[str, float]:
        found = [self._results(one, model) for one in self.sets]
        return {prefix + name: value for results in found for name, value in results.items()}

    def _results(self, one: Evaluation, model: Model) -> dict[str, float]:
        self.feed.alive()
        return as_results(one.name, one.run(model))

    def save(self, done: int) -> None:
        """A checkpoint of `done` steps; the log's lines up to it are on disk before it counts."""
        self.peers.place.enter("save")
        started = time.perf_counter()
        self.feed.alive()
        for lines in self.logs.values():
            lines.sync()
        root, keep_last = self.settings.output_path / CHECKPOINTS, self.settings.checkpoint.keep_last
        cost_s = save(root, self.engine, self.state(done), keep_last, self.rejected, self.companions.state())
        self.clock.saved(cost_s)
        if self.peers.rank == 0:
            note_saved(self.settings.output_path)
            log.debug("saved %s in %.2f s; next %s", step_name(done), cost_s, self.clock.in_words())
            folder = str(root / step_name(done))
            self.feed.saved(step=done, samples=self.samples(done), steps=self.settings.steps, checkpoint=folder)
        self._pause("save_s", started)

    def _pause(self, counter: str, started: float) -> None:
        """Counts time spent beside the steps and keeps it out of their speed."""
        now = time.perf_counter()
        self.goodput[counter] += now - started
        self._step_ended += now - started

    def state(self, done: int) -> TrainState:
        """What a checkpoint of `done` steps says."""
        return TrainState(
            step=done,
            samples=self.samples(done),
            reader=self.reader.state(done),
            optimizer_steps=self.engine.optimizer_steps,
            nonfinite_steps=self.nonfinite,
            model=self.plan.base.model_digest,
            recipe_digest=self.recipe_digest,
            recipe=as_kept(self.plan.base),
            schedule=self.plan.base.in_words(),
            lr=self.last.get("lr"),
            engine=self.settings.engine.model_dump(),
            world=self.peers.world,
            tiles=self.tiles,
            tiled_on=self.peers.device.type if self.tiles else None,
            save_cost_s=self.clock.cost_s,
            job=job_of(),
            goodput=Goodput(**self.goodput),
        )
