"""A training run between its steps: opened or resumed, recorded, saved, evaluated. All methods are collective."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch

from pipeline import recipe as recipes
from pipeline.cluster.rundir.feed import Feed, feed_of
from pipeline.errors import DataError
from pipeline.log import get_logger
from pipeline.outputs import CACHE, CHECKPOINTS, EVALS, METRICS
from pipeline.recipe import Recipe
from pipeline.storage.files import publish_json
from training.checkpoint.clock import SaveClock
from training.checkpoint.layout import step_name
from training.checkpoint.save import Found, find, kept_by, restore, restore_fitted, save
from training.checkpoint.train_state import Goodput, TrainState
from training.companions.running.companion import Companions, OfTerm
from training.companions.running.ema import RunningEma
from training.engine.build import build_engine
from training.engine.interface import Engine
from training.evals.evaluation import Evaluation, as_results
from training.evals.model import Model
from training.finished import require_same
from training.output.folder import note_saved, require_checkpoints, save_recipe, set_aside
from training.output.metrics import JsonLines, peak_memory_mb
from training.plan.plan import Plan
from training.ranks.agreement import on_first_rank
from training.ranks.environment import job_of
from training.ranks.peers import Peers
from training.reader.batch import Batch
from training.reader.digest import digest_part, step_digest
from training.reader.pairs import Pairs, open_pairs
from training.reader.reader import Reader
from training.reader.state import check_state
from training.settings import TrainSettings
from training.stages import check_stages
from training.step.grad_cache import StepResult
from training.step.objective import Objective, build_objective

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
            schedule=self.plan.base.in_words(),
            lr=self.last.get("lr"),
            engine=self.settings.engine.model_dump(),
            world=self.peers.world,
            save_cost_s=self.clock.cost_s,
            job=job_of(),
            goodput=Goodput(**self.goodput),
        )


def open_run(
    settings: TrainSettings,
    *,
    seed: int,
    recipe: Recipe,
    peers: Peers,
    sets: Sequence[Evaluation],
    goes_on: bool = False,
) -> Run | None:
    """A run ready for its next step; None when all steps are done already. Collective.

    `goes_on`: this process has just ended a stage of it."""
    began = time.perf_counter()
    found = _found(settings, peers, settings.fresh and not goes_on)
    feed = _fed(settings, peers, found)
    if found and found.state.step >= settings.steps:
        on_first_rank(peers, lambda: require_same(settings, seed, found))
        if peers.rank == 0:
            log.info("already finished: %s has %d of %d steps", settings.output, found.state.step, settings.steps)
        return None
    if found and found.state.model != settings.model_digest:
        hint = "put train.model and train.image.resize back, or give this run another train.output"
        raise DataError(
            str(found.complete.folder),
            f"was made with model {found.state.model}",
            f"train.model is {settings.model_digest} now",
            hint,
        )
    start = found.state.step if found else 0
    plan, now = settings.plan, settings.plan.resolved(start)
    pairs = open_pairs(settings.data, str(settings.output_path / CACHE))
    if not goes_on and len(plan.stages) > 1:
        on_first_rank(peers, lambda: check_stages(plan, pairs, seed))
    reader, engine = _reader_and_engine(plan, pairs, seed, peers, found)
    objective = build_objective(now.loss)
    companions = _companions(now, objective, engine, seed, found, plan.begins_at(start))
    on_first_rank(peers, lambda: save_recipe(settings.output_path, recipe.as_yaml()))
    goodput = (found.state.goodput if found else Goodput(restarts=-1)).model_dump()
    goodput["restarts"] += not goes_on
    goodput["start_s"] += time.perf_counter() - began
    if peers.rank == 0 and found:
        _say(plan, found, peers.world)
    return Run(
        plan=plan,
        settings=now,
        engine=engine,
        reader=reader,
        objective=objective,
        companions=companions,
        sets=list(settings.eval.sets or sets),
        recipe_digest=recipes.digest(recipe),
        start=start,
        until=plan.stage_at(start).until,
        clock=SaveClock(settings.checkpoint, peers.world, found.state.save_cost_s if found else None),
        rejected=found.rejected if found else (),
        goodput=goodput,
        feed=feed,
        nonfinite=found.state.nonfinite_steps if found else 0,
    )


def _fed(settings: TrainSettings, peers: Peers, found: Found | None) -> Feed:
    """The feed of this rank, which tells where the run begins."""
    feed = feed_of("train", peers.rank)
    step, samples = (found.state.step, found.state.samples) if found else (0, 0)
    checkpoint = str(found.complete.folder) if found else None
    feed.tell(status="running", step=step, samples=samples, steps=settings.steps, checkpoint=checkpoint)
    return feed


def _companions(
    settings: TrainSettings, objective: Objective, engine: Engine, seed: int, found: Found | None, new_stage: bool
) -> Companions:
    """Of the recipe and of the terms, as the checkpoint has them; at the start of a stage they begin anew."""
    own = (OfTerm(name, term) for name, term in objective.keeping.items())
    companions = Companions((*(one.build(engine, seed) for one in settings.companions), *own))
    if found and not new_stage:
        companions.load(kept_by(found))
    elif found and companions.each and engine.peers.rank == 0:
        log.info("companions begin anew with the stage")
    return companions


def _say(plan: Plan, found: Found, world: int) -> None:
    """Where the run goes on, and how far its learning rate jumps there if other settings make it."""
    step = found.state.step
    if plan.begins_at(step):
        log.info("stage %d of %d begins at step %d", plan.number_at(step) + 1, len(plan.stages), step)
    log.info("resumed at step %d from %s, on %d ranks", step, found.complete.folder, world)
    jump = plan.jump_at(step, found.state.lr)
    if jump:
        log.warning("%s", jump)


def _found(settings: TrainSettings, peers: Peers, fresh: bool) -> Found | None:
    """The checkpoint to go on from. When `fresh`, only one that this very scheduler job wrote."""
    root = settings.output_path / CHECKPOINTS
    if not fresh:
        found = find(root, peers, clean=True)
        if found is None:
            on_first_rank(peers, lambda: require_checkpoints(settings.output_path))
        return found
    try:
        found = find(root, peers, clean=True)
    except DataError:  # nothing there verifies, or it is too new: a fresh start is the way out
        found = None
    job = job_of()
    if found and job is not None and found.state.job == job:
        return found
    on_first_rank(peers, lambda: set_aside(settings.output_path))
    return None


def _reader_and_engine(plan: Plan, pairs: Pairs, seed: int, peers: Peers, found: Found | None) -> tuple[Reader, Engine]:
    """Built for the stage that comes next, then set to the checkpoint. DataError when that is of other data or another
    model, RecipeError when no surgery makes one stage's towers of another's."""
    step = found.state.step if found else 0
    settings, new_stage = plan.resolved(step), plan.begins_at(step)
    towers = settings.towers(seed)
    reader = Reader(
        pairs,
        settings.reader,
        seed=seed,
        global_batch=settings.batch.global_pairs,
        image=settings.image,
        image_size=towers.image_size,
        captions=settings.captions,
        tokenize=towers.tokenize,
        rank=peers.rank,
        world=peers.world,
        quarantine=settings.output_path / f"quarantine-{peers.rank:03d}.jsonl",
        steps=settings.steps,
        wanted=settings.wanted,
        lanes=plan.lanes,
        origin=plan.origin(step),
    )
    if found:
        check_state(found.state.reader, reader.state(step), new_stage)
    shapes = {name: tuple(tensor.shape) for name, tensor in towers.state_dict().items()}
    engine = build_engine(towers, settings.engine, settings.optimizer, peers)
    if found and new_stage:
        stage = plan.stage_at(step)
        restore_fitted(engine, shapes, found, stage.stretch, stage.moments == "fresh")
    elif found:
        restore(engine, found)
    return reader, engine
