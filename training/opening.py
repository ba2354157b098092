"""A run opened or resumed: its checkpoint found, compared with the recipe, and everything built for the next step."""

import time
from collections.abc import Sequence

from pipeline import recipe as recipes
from pipeline.cluster.rundir.feed import Feed, feed_of
from pipeline.errors import DataError
from pipeline.log import get_logger
from pipeline.outputs import CACHE, CHECKPOINTS
from pipeline.recipe import Recipe
from training.changes.compare import Change
from training.changes.consent import compared
from training.changes.history import note_start
from training.changes.kept import without_consent
from training.checkpoint.clock import SaveClock
from training.checkpoint.save import Found, find, kept_by, restore, restore_fitted
from training.checkpoint.train_state import Goodput
from training.companions.running.companion import Companions, OfTerm
from training.engine.build import build_engine
from training.engine.interface import Engine
from training.evals.evaluation import Evaluation
from training.finished import require_same
from training.output.folder import require_checkpoints, save_recipe, set_aside
from training.plan.plan import Plan
from training.ranks.agreement import on_first_rank
from training.ranks.environment import job_of
from training.ranks.peers import Peers
from training.reader.pairs import Pairs, open_pairs
from training.reader.reader import Reader
from training.reader.state import check_state
from training.reader.stored.fixed import require_fixed
from training.run import Run
from training.settings import TrainSettings
from training.stages import check_kernels, check_stages
from training.step.objective import Objective, build_objective
from training.surgery.fit import beside_towers
from training.terms.cores.tiles import Tiles, with_tiles
from training.terms.term import TermSettings
from training.towers.layers import draws_by_chunk
from training.towers.towers import Towers

log = get_logger("train")


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
    if found:
        _require_model(settings, found)
    start = found.state.step if found else 0
    plan, now = settings.plan, settings.plan.resolved(start)
    check_kernels(plan, peers.device.type)
    pairs = open_pairs(settings.data, str(settings.output_path / CACHE))
    if not goes_on and len(plan.stages) > 1:
        on_first_rank(peers, lambda: check_stages(plan, pairs, seed))
    towers = now.towers(seed)
    reader = _reader(plan, pairs, seed, peers, towers, found)
    if not goes_on:
        on_first_rank(peers, lambda: _note_start(settings, recipe, towers, peers.world, found))
    engine = _engine(plan, towers, peers, found)
    loss, tiles = _tiled(now, towers, peers, found)
    objective = build_objective(loss)
    companions = _companions(now, objective, engine, seed, found, plan.begins_at(start))
    on_first_rank(peers, lambda: save_recipe(settings.output_path, without_consent(recipe).as_yaml()))
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
        tiles=tiles,
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


def _tiled(
    settings: TrainSettings, towers: Towers, peers: Peers, found: Found | None
) -> tuple[Sequence[TermSettings], Tiles]:
    """The terms with the tiles they work with: the checkpoint's, so that resuming rounds as the run did; on another
    sort of device they are chosen anew."""
    kept = found.state.tiles if found and found.state.tiled_on == peers.device.type else {}
    loss, tiles = with_tiles(settings.loss, towers.embed_dim, peers, kept)
    for name, (rows, columns) in tiles.items():
        if peers.rank == 0:
            log.info(
                "tile of %s: %d x %d, %s", name, rows, columns, "as before" if name in kept else "the fastest here"
            )
    return loss, tiles


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


def _require_model(settings: TrainSettings, found: Found) -> None:
    if found.state.model not in settings.model_digests:
        hint = "put train.model and train.image.resize back, or give this run another train.output"
        was, now = f"was made with model {found.state.model}", f"train.model is {settings.model_digest} now"
        raise DataError(str(found.complete.folder), was, now, hint)


def _note_start(settings: TrainSettings, recipe: Recipe, towers: Towers, ranks: int, found: Found | None) -> None:
    """Tells what differs from the checkpoint and keeps the recipe. RecipeError for changes without consent."""
    differing: list[Change] = []
    if found:
        drawn = draws_by_chunk(towers)
        differing = compared(settings, found.state, found.complete.folder, ranks, drawn)
    step = found.state.step if found else 0
    note_start(settings.output_path, recipe, step=step, ranks=ranks, found=differing, job=job_of())


def _reader(plan: Plan, pairs: Pairs, seed: int, peers: Peers, towers: Towers, found: Found | None) -> Reader:
    """For the stage that comes next. DataError when the checkpoint is of other data or another order."""
    step = found.state.step if found else 0
    settings = plan.resolved(step)
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
        stored=settings.stored,
    )
    require_fixed(reader, towers)
    if found:
        check_state(found.state.reader, reader.state(step), plan.begins_at(step))
    return reader


def _engine(plan: Plan, towers: Towers, peers: Peers, found: Found | None) -> Engine:
    """For the stage that comes next, set to the checkpoint. DataError when that is of another model or optimizer,
    RecipeError when no surgery makes one stage's towers of another's."""
    step = found.state.step if found else 0
    settings = plan.resolved(step)
    state = towers.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    beginning = {name: tensor.clone() for name, tensor in state.items() if beside_towers(name)}
    engine = build_engine(towers, settings.engine, settings.optimizer, peers)
    if found and plan.begins_at(step):
        stage = plan.stage_at(step)
        restore_fitted(engine, shapes, found, stage.stretch, stage.moments == "fresh", beginning)
    elif found:
        restore(engine, found)
    return engine
