"""The training loop: one page. What a step, a save or an evaluation is stands in the modules it calls.

`train` is called once on every rank; see `training/README.md` for what it leaves in `train.output`.
"""

import gc
import time
from collections.abc import Iterator, Sequence

from pipeline.cluster.rundir.feed import OVERTAKEN, feed_of, in_words, overtaken_error
from pipeline.errors import Stopped
from pipeline.log import get_logger
from pipeline.progress import progress as meter_of
from pipeline.recipe import Recipe
from pipeline.signals import StopSignals
from training.evals.evaluation import Evaluation
from training.output.folder import claimed
from training.ranks.peers import Peers
from training.reader.batch import Batch
from training.run import Run, open_run
from training.scheduled import progress_of
from training.settings import TrainSettings
from training.step.grad_cache import cached_step

log = get_logger("train")


def train(
    settings: TrainSettings,
    *,
    seed: int,
    recipe: Recipe,
    peers: Peers,
    stop: StopSignals,
    sets: Sequence[Evaluation] = (),
) -> None:
    """Goes on from the newest checkpoint that verifies until `settings.steps` are done. Collective.

    Raises Stopped (75) after a signal, with everything done so far in a checkpoint; DataError for damaged data or
    checkpoints, or too many non-finite steps; Fenced (78) when a newer attempt has taken over the run directory.
    """
    run: Run | None = None
    with claimed(settings.output_path, peers):
        for number in range(len(settings.plan.stages)):
            run = open_run(settings, seed=seed, recipe=recipe, peers=peers, sets=sets, goes_on=number > 0)
            if run is None:
                break
            _train_stage(run, stop)
            if run.until == settings.steps:
                break
            run = None  # its engine, before that of the next stage is built
            gc.collect()
    feed_of("train", peers.rank).tell(status="completed")
    if peers.rank == 0 and run is not None:
        samples = settings.plan.pairs_before(settings.steps)
        log.info("finished: %d steps, %d pairs, in %s", settings.steps, samples, settings.output)


def _train_stage(run: Run, stop: StopSignals) -> None:
    settings, peers = run.settings, run.peers
    with run, meter_of(settings.steps, "train", "steps", done=run.start, quiet=peers.rank != 0) as meter:
        for step, batch, fetch_s in _timed(run.reader.batches(run.start, run.until)):
            lr, progress = run.plan.lr_at(step), progress_of(step, settings.steps)
            rows, chunk = batch.to(peers.device), settings.batch.chunk
            result = cached_step(run.engine, rows, run.objective, chunk, lr, progress, run.companions)
            run.record(step, batch, result, lr, fetch_s)
            meter.advance()
            meter.note(run.in_words())
            _between_steps(run, step + 1, stop)


def _between_steps(run: Run, done: int, stop: StopSignals) -> None:
    """Evaluates, saves or stops, as all ranks agree; `done` steps are done."""
    finished = done == run.settings.steps
    reason, save_due = run.agreed(stop.received, run.clock.due(done))
    if reason == OVERTAKEN:
        raise overtaken_error()
    if run.eval_due(done) and not reason:
        run.evaluate(done)
    if save_due or reason or done == run.until:
        run.save(done)
    if reason and not finished:
        words = f"stopped {in_words(reason)} after step {done} of {run.settings.steps}, which is saved"
        run.feed.tell(status="stopped", message=f"train: {words}")
        raise Stopped("train", words, "", "run the same command again to continue")


def _timed(batches: Iterator[tuple[int, Batch]]) -> Iterator[tuple[int, Batch, float]]:
    """Each batch with the seconds that the loop waited for it."""
    while True:
        asked = time.perf_counter()
        item = next(batches, None)
        if item is None:
            return
        yield *item, time.perf_counter() - asked
