"""Saving and restoring with all ranks together. Topology-free: any world size and ZeRO stage reads what any wrote.

param/<name>, buffer/<name>, <moment>/<name>      the tensors of `Engine.full_state`, fp32; the moments are named by the
                                                  optimizer (AdamW: exp_avg, exp_avg_sq)
companion/<companion>/<name>                      what companions keep
"""

import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.cluster.rundir.lock import require_ours
from pipeline.errors import ClipmillError, DataError
from pipeline.log import get_logger
from pipeline.storage.refusals import storage_errors
from training.checkpoint.files import FileEntry, write_hashed
from training.checkpoint.layout import (
    STATE,
    Complete,
    NewerFormat,
    begin,
    commit,
    damage_of,
    read_complete,
    step_folders,
    sweep,
)
from training.checkpoint.retention import prune
from training.checkpoint.tensors import TensorReader, write_tensors
from training.checkpoint.train_state import TrainState
from training.engine.full_state import checked, load_buffers
from training.engine.interface import Engine
from training.ranks.agreement import on_every_rank, on_first_rank
from training.ranks.peers import Peers
from training.surgery.fit import Shapes, fitted, moment_of
from training.surgery.positions import Stretch

log = get_logger("checkpoint")
COMPANION = "companion"


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that verified, and in words why newer ones were not used."""

    complete: Complete
    state: TrainState
    rejected: tuple[str, ...]


def save(
    root: Path,
    engine: Engine,
    state: TrainState,
    keep_last: int,
    rejected: tuple[str, ...] = (),
    kept: Iterable[tuple[str, torch.Tensor]] = (),
) -> float:
    """Commits a checkpoint, drops expired ones and returns the seconds it took. Collective.

    `kept`: of companions, whole tensors by name, the same on every rank, made one at a time.

    Raises StorageError (disk full, ...), DataError (a tensor that is not finite) or Fenced (a newer attempt has the
    run) on every rank; then the earlier checkpoints are untouched and the unfinished one is gone.
    """
    started = time.monotonic()
    peers = engine.peers
    temp = on_first_rank(peers, lambda: begin(root, state.step))
    try:
        reports = on_every_rank(peers, lambda: (state.step, _write_mine(temp, engine, kept)))
        on_first_rank(peers, lambda: _finish(temp, peers.world, state, reports))
    except ClipmillError:
        if peers.rank == 0:
            shutil.rmtree(temp, ignore_errors=True)
        raise
    if peers.rank == 0:
        prune(root, state.step, keep_last, rejected)
    return time.monotonic() - started


def _write_mine(temp: Path, engine: Engine, kept: Iterable[tuple[str, torch.Tensor]]) -> list[FileEntry]:
    """This rank's share: each parameter goes to the rank that has the fewest bytes so far.

    Goes through the whole state even after an error of its own: making it whole is collective, and the other ranks
    would wait for ever.
    """
    peers = engine.peers
    more = ((name, {COMPANION: tensor}) for name, tensor in kept)
    left = itertools.chain(engine.full_state(), more)

    def mine() -> Iterator[tuple[str, torch.Tensor]]:
        held = [0] * peers.world
        for name, tensors in left:
            rank = held.index(min(held))
            held[rank] += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            if rank == peers.rank:
                yield from ((f"{part}/{name}", tensor) for part, tensor in tensors.items())

    try:
        return write_tensors(temp, f"rank-{peers.rank:03d}", mine())
    finally:
        for _ in left:
            pass


def _finish(temp: Path, world: int, state: TrainState, reports: list[tuple[int, list[FileEntry]]]) -> None:
    steps = sorted({step for step, _ in reports})
    if len(steps) != 1:
        raise DataError(str(temp), f"the ranks are at different steps: {steps}", "one step", "this is a bug; report it")
    files = [file for _, listed in reports for file in listed]
    require_ours()
    with storage_errors(temp):
        files.append(write_hashed(temp / STATE, [state.as_bytes()]))
    commit(temp, state.step, world, files)


def find(root: Path, peers: Peers, clean: bool = False) -> Found | None:
    """The newest checkpoint of which every byte is as written; None when the run never saved one. Collective.

    Hashes are checked (shared out over the ranks) before anything is parsed. Raises DataError when checkpoints exist
    but none verifies: a run never starts again from step 0 by itself. `clean`, for the one run that writes here:
    first removes what a killed save or deletion left.
    """
    names = on_first_rank(peers, lambda: _listed(root, clean))
    rejected: list[str] = []
    for name in names:
        complete, problems = _verified(root / name, peers)
        if complete is not None and not problems:
            return Found(complete, _state_of(complete), tuple(rejected))
        rejected.append(name)
        if peers.rank == 0:
            log.warning("rejected %s: %s", name, "; ".join(problems))
    if rejected:
        hint = "restore one of them from a copy, or start over on purpose with train.fresh=true"
        found = f"none of {len(rejected)} checkpoints verifies ({', '.join(rejected)})"
        raise DataError(str(root), found, "at least one undamaged", hint)
    return None


def open_checkpoint(folder: Path, peers: Peers) -> Found:
    """The checkpoint in `folder`. DataError saying what is wrong with it. Collective."""
    complete, problems = _verified(folder, peers)
    if complete is None or problems:
        raise DataError(str(folder), "; ".join(problems), "an undamaged checkpoint", "use an earlier one")
    return Found(complete, _state_of(complete), ())


def _state_of(complete: Complete) -> TrainState:
    path = complete.folder / STATE
    return TrainState.from_bytes(path.read_bytes(), str(path))


def _listed(root: Path, clean: bool) -> list[str]:
    for name in sweep(root) if clean else ():
        log.info("removed %s, left by a run that was killed", root / name)
    return [folder.name for folder in step_folders(root)]


def _verified(folder: Path, peers: Peers) -> tuple[Complete | None, list[str]]:
    """A checkpoint and what is wrong with it; every rank hashes its share of the files. Collective.

    A newer format is raised, not listed: going back to an older checkpoint would throw away good work.
    """

    def read() -> Complete | str:
        try:
            return read_complete(folder)
        except NewerFormat:
            raise
        except DataError as error:
            return f"{error.where}: {error.found}"

    complete = on_first_rank(peers, read)
    if isinstance(complete, str):
        return None, [complete]
    shares = peers.gather_object([damage_of(folder, file) for file in complete.files[peers.rank :: peers.world]])
    return complete, [problem for share in shares for problem in share if problem]


def restore(engine: Engine, found: Found) -> None:
    """Sets weights, moments and the step count of the engine. Collective.

    Raises DataError listing the difference when the checkpoint is of another architecture or another optimizer.
    """
    reader = TensorReader(found.complete.tensor_files)
    check_names(reader, engine.towers, str(found.complete.folder))
    check_moments(reader, engine, str(found.complete.folder))
    engine.load_full_state(lambda name: tensors_of(reader, name), found.state.optimizer_steps)


def restore_fitted(engine: Engine, shapes: Shapes, found: Found, stretch: Stretch, fresh: bool) -> None:
    """As `restore`, for towers of another picture size or text length (`shapes` of all their tensors), at the start of
    a stage. Parameters that are resized begin with no momentum and their mean second moment; `fresh`: all begin anew.

    RecipeError: a difference that no surgery reaches. Collective.
    """
    reader = TensorReader(found.complete.tensor_files)
    check_names(reader, engine.towers, str(found.complete.folder))
    if not fresh:
        check_moments(reader, engine, str(found.complete.folder))
    saved = {name: part for part in ("param", "buffer") for name in reader.of_part(part) if name in shapes}
    whole = {name: reader.get(f"{part}/{name}") for name, part in saved.items()}
    resized = fitted(whole, {name: shapes[name] for name in whole}, stretch)

    def tensors(name: str) -> dict[str, torch.Tensor]:
        parts = {saved[name]: resized[name]}
        for moment in () if fresh else engine.moments.get(name, ()):
            kept = reader.get(f"{moment}/{name}")
            parts[moment] = kept if kept.shape == resized[name].shape else moment_of(moment, kept, resized[name].shape)
        return parts

    engine.load_full_state(tensors, 0 if fresh else found.state.optimizer_steps)


def kept_by(found: Found) -> Callable[[str], torch.Tensor | None]:
    """What companions had: a whole tensor by name, None where the checkpoint has none."""
    reader = TensorReader(found.complete.tensor_files)
    return lambda name: reader.get(f"{COMPANION}/{name}") if f"{COMPANION}/{name}" in reader else None


def load_weights(towers: torch.nn.Module, found: Found, average: str | None = None) -> None:
    """Sets parameters and buffers of towers that no engine holds; DataError on another architecture.

    `average`: the name of a moving average that the run kept; its weights where it has them, which is what was trained.
    """
    reader = TensorReader(found.complete.tensor_files)
    check_names(reader, towers, str(found.complete.folder))
    of_average = f"{COMPANION}/{average}/"
    if average is not None and not any(name.startswith(of_average) for name in reader.names()):
        hint = "train with train.companions: [{kind: ema}], or leave the choice of weights out"
        raise DataError(str(found.complete.folder), f"holds no average called {average!r}", "one", hint)
    with torch.no_grad():
        for name, parameter in towers.named_parameters():
            tensors = tensors_of(reader, name)
            if average is not None and of_average + name in reader:
                tensors["param"] = reader.get(of_average + name)
            parameter.copy_(checked(name, tensors, tuple(parameter.shape), ())["param"])
        load_buffers(towers, lambda name: tensors_of(reader, name))


def check_names(reader: TensorReader, towers: torch.nn.Module, where: str) -> None:
    """DataError unless the checkpoint has exactly the towers' parameters (and no buffer they lack)."""
    saved = {name.partition("/")[2] for name in reader.names() if name.startswith("param/")}
    wanted = {name for name, _ in towers.named_parameters()}
    lacking, foreign = sorted(wanted - saved), sorted(saved - wanted)
    if lacking or foreign:
        words = f"it lacks {len(lacking)} parameters {lacking[:3]} and adds {len(foreign)} {foreign[:3]}"
        found = f"is of another architecture: {words}"
        hint = "train.model must be the one the run began with; a new model needs another train.output"
        raise DataError(where, found, "the parameters of train.model", hint)


def check_moments(reader: TensorReader, engine: Engine, where: str) -> None:
    """DataError when the optimizer keeps what the checkpoint has not: zeros beside a step count of many would be taken
    for the mean of many steps, and the first updates would be many times too large."""
    lacking = [f"{part}/{name}" for name, parts in engine.moments.items() for part in parts]
    lacking = [key for key in lacking if key not in reader]
    if lacking:
        kept = sorted(set(reader.parts) - {"param", "buffer"})
        found = f"has no {lacking[0]} ({len(lacking)} tensors of the optimizer's are missing; it keeps {kept})"
        hint = "put train.optimizer.kind back, or give this run another train.output"
        raise DataError(where, found, "the optimizer of the run that wrote it", hint)


def tensors_of(reader: TensorReader, name: str) -> dict[str, torch.Tensor]:
    """Everything saved for one parameter or buffer, as `Engine.load_full_state` wants it."""
    return {part: reader.get(f"{part}/{name}") for part in reader.parts if f"{part}/{name}" in reader}
