"""`clipmill eval`: scores of one checkpoint, and of the untrained towers of the same seed, in eval.json."""

import itertools
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.cluster.rundir.feed import feed_of
from pipeline.errors import RecipeError
from pipeline.log import get_logger
from pipeline.outputs import BEFORE, CHECKPOINTS, EVAL
from pipeline.progress import progress
from pipeline.settings import digest_of
from training.checkpoint.save import Found, find, load_weights, open_checkpoint
from training.evals.evaluation import about, as_results
from training.evals.model import Model
from training.ranks.agreement import on_first_rank
from training.ranks.peers import Peers
from training.settings import LATEST, PARAM, WEIGHTS, EvalSettings, TrainSettings
from training.towers.towers import Towers

log = get_logger("eval")


def evaluate(settings: EvalSettings, train: TrainSettings, *, seed: int, peers: Peers) -> dict[str, Any]:
    """What is in <eval.output>/eval.json afterwards. Every rank holds the whole model, in fp32. Collective.

    Raises RecipeError when there is no such checkpoint, DataError when it or a set is damaged.
    """
    towers, step, name = _trained(settings, train, seed, peers)
    feed, done = feed_of("eval", peers.rank), itertools.count(1)
    with progress(len(settings.sets), "evaluate", "sets", quiet=peers.rank != 0) as meter:

        def tick() -> None:
            meter.advance()
            feed.beat(next(done), steps=len(settings.sets))

        results, sets = _scores(settings, train, towers, peers, tick)
    found = {"checkpoint": name, "step": step, "results": results, "sets": sets, "before": None}
    if settings.before:
        found["before"] = _before(settings, train, seed, peers)
    if peers.rank == 0:
        storage.publish_json(storage.join(settings.output, EVAL), found)
        log.info("%s", "\n".join(f"{key}: {value:.4f}" for key, value in sorted(results.items())))
    return found


def _scores(
    settings: EvalSettings, train: TrainSettings, towers: Towers, peers: Peers, tick: Any
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    import torch

    @torch.no_grad()
    def features(rows: Any, want: frozenset[str]) -> Any:
        return towers(rows, want)

    towers.eval().to(peers.device)
    model = Model(features, towers, train.image, peers, settings.batch)
    results: dict[str, float] = {}
    sets = []
    for one in settings.sets:
        scored = one.run(model)
        results |= as_results(one.name, scored)
        sets.append(about(one, scored))
        tick()
    return results, sets


def _before(settings: EvalSettings, train: TrainSettings, seed: int, peers: Peers) -> dict[str, float]:
    """Scores of the towers as training begins; kept beside eval.json and computed again only if anything changed."""
    path = Path(settings.output) / BEFORE
    inputs = {"model": train.model, "image": train.image, "loss": train.loss, "seed": seed, "sets": settings.sets}
    key = digest_of(inputs)
    kept = on_first_rank(peers, lambda: _read(path))
    if kept.get("key") == key:
        return kept["scores"]
    scores, _ = _scores(settings, train, train.towers(seed), peers, lambda: None)
    if peers.rank == 0:
        storage.publish_json(str(path), {"key": key, "scores": scores})
    return scores


def _read(path: Path) -> dict[str, Any]:
    return (storage.json_object(path.read_bytes()) if path.is_file() else None) or {}


def _trained(settings: EvalSettings, train: TrainSettings, seed: int, peers: Peers) -> tuple[Towers, int | None, str]:
    """(towers, steps trained if known, what was scored)."""
    path = Path(settings.checkpoint)
    if path.suffix in WEIGHTS:
        last = train.plan.every[-1]
        model = last.model.model_copy(update={"pretrained": str(path)})
        return last.model_copy(update={"model": model}).towers(seed), None, str(path)
    found = checkpoint_at(train.output_path if settings.checkpoint == LATEST else path, peers)
    towers = train.plan.of_checkpoint(found.state.step).towers(seed)
    average = None if settings.weights == PARAM else settings.weights
    load_weights(towers, found, average)
    return towers, found.state.step, str(found.complete.folder) + (f", {average}" if average else "")


def checkpoint_at(path: Path, peers: Peers) -> Found:
    """The checkpoint in a step's folder, or the newest that verifies of a run's output folder. Collective."""
    if path.name.startswith("step-"):
        return open_checkpoint(path, peers)
    found = find(path / CHECKPOINTS, peers)
    if found is None:
        hint = "clipmill train RECIPE, or give a step's folder"
        raise RecipeError(str(path), "has no checkpoint", "the output folder of a training run", hint)
    if found.rejected and peers.rank == 0:
        log.warning("newer checkpoints are damaged; using %s", found.complete.folder)
    return found
