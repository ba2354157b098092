"""What companions of a run hold, do and move; each kind of the table of companions has a line in this one, too."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import recipe as recipes
from pipeline.contract.reinforced.manifest import ReinforcedManifest
from pipeline.errors import ClipmillError, DataError, RecipeError
from pipeline.outputs import RECIPE
from training.companions.companion import CompanionSettings
from training.costs.model import Look, Model, Seen, Weights, bare
from training.costs.watch import Work
from training.costs.weights import parts
from training.engine.full_state import persistent_buffers
from training.ranks.ring import F32, I64, gathered
from training.rows import base_of, group_of, named
from training.settings import TrainSettings
from training.towers.build import build_towers
from training.towers.settings import ModelSettings
from training.wanted import LOG_SCALE, Scalar

NOTHING = Look(Work(), 0)
_NUMBERS = {"fp16": 2, "bf16": 2, "fp32": F32}


@dataclass(frozen=True)
class Company:
    """One companion. `average`: of what is trained, shared out as its moments are; `towers`: bytes of towers that each
    rank holds whole; `state`, `tensors`: of a checkpoint, without averages and queue; `entry`: bytes of one of `queue`
    pairs; `look`: at a chunk, in a step; `row`: bytes of the columns of a pair; `widths`: numbers of a vector of each
    column; `reason`: why it is not counted."""

    called: str
    average: bool = False
    towers: int = 0
    state: int = 0
    tensors: int = 0
    queue: int = 0
    entry: int = 0
    look: Look = NOTHING
    row: float = 0.0
    widths: dict[str, int] = field(default_factory=dict)
    reason: str = ""

    def queued(self, pairs: int, ranks: int) -> int:
        """Pairs of a full queue on the rank that has most: of the oldest step, the first ranks' go first."""
        rows = -(-pairs // ranks)
        return self.queue // pairs * rows + min(rows, self.queue % pairs)

    def held(self, weights: Weights, stage: int, ranks: int, pairs: int) -> int:
        """Bytes of one rank, columns of a step included. A step reads a copy of the queue, without pairs of its own."""
        share = sum(parts(weights, stage or 3, ranks)) if self.average else 0
        rows = -(-pairs // ranks)
        return F32 * share + self.towers + 2 * self.entry * self.queued(pairs, ranks) + int(rows * self.row)

    def moved(self, pairs: int, ranks: int) -> int:
        """Bytes that a rank receives in a step: the ids of its pairs, and how many each rank has, before and after."""
        return gathered(I64 * (2 + -(-pairs // ranks)), ranks) if self.queue else 0

    def saved(self, weights: Weights) -> int:
        """Bytes of a checkpoint."""
        return self.state + self.queue * self.entry + (F32 * weights.trained if self.average else 0)


def company_of(model: Model, chunk: int) -> tuple[Company, ...]:
    """All of a run's."""
    return tuple(KINDS[one.kind](one, model, chunk) for one in model.settings.companions)  # type: ignore[attr-defined]


def _ema(one: CompanionSettings, model: Model, chunk: int) -> Company:
    return Company(one.called, average=True, tensors=sum(len(group["params"]) for group in model.groups))


def _momentum(one: Any, model: Model, chunk: int) -> Company:
    """The towers once more, at work as they are evaluated. What they say goes into the queue, asked or not."""
    D, towers = model.towers.embed_dim, model.towers
    outputs = _outputs(one.called, model.columns)
    if one.queue:
        outputs |= {f"{one.called}.{side}": side for side in ("image", "text")}
    saved = [*towers.parameters(), *(buffer for _, buffer in persistent_buffers(towers))]
    return Company(
        one.called,
        towers=sum(tensor.nbytes for tensor in (*towers.parameters(), *towers.buffers())),
        state=sum(tensor.nbytes for tensor in saved),
        tensors=len(saved) + (3 if one.queue else 0),
        queue=one.queue,
        entry=2 * F32 * D + I64 if one.queue else 0,
        look=model.look(chunk, frozenset(outputs.values())) if outputs else NOTHING,
        row=_row(outputs, model, D),
        widths={f"{one.called}.{side}": D for side in ("image", "text")},
    )


def _teacher(one: Any, model: Model, chunk: int) -> Company:
    """Frozen towers, whole on each rank in fp32, with pixels and tokens of their own sizes."""
    outputs = _outputs(one.called, model.columns)
    try:
        settings, scalars = _model_of(one)
        seen = Seen(lambda: build_towers(settings, 0, scalars), model.half, model.settings.wanted)
        look = seen.look(chunk, frozenset(outputs.values())) if outputs else NOTHING
    except ClipmillError as error:
        return Company(one.called, reason=f"its towers cannot be looked at here: {error.found}")
    D = seen.towers.embed_dim
    held = sum(tensor.nbytes for tensor in (*seen.towers.parameters(), *seen.towers.buffers()))
    widths = {f"{one.called}.{side}": D for side in ("image", "text")}
    return Company(one.called, towers=held, look=look, row=_row(outputs, model, D), widths=widths)


def _model_of(one: Any) -> tuple[ModelSettings, tuple[Scalar, ...]]:
    """The model of a teacher, without weights, and the scalars of the run that it is from. RecipeError: that run has no
    recipe here."""
    if one.checkpoint is None:
        return bare(one.model), (LOG_SCALE,)
    folder = Path(one.checkpoint)
    path = (folder.parent.parent if folder.name.startswith("step-") else folder) / RECIPE
    train = recipes.load(str(path)).data.get("train") if path.is_file() else None
    if not isinstance(train, dict) or "model" not in train:
        raise RecipeError("train.companions", f"{path} names no model", "the recipe of the run that it is from")
    from_run = TrainSettings.model_validate(train)
    return bare(one.model or from_run.model), from_run.scalars


def _stored(one: Any, model: Model, chunk: int) -> Company:
    """Vectors as the reader hands them over: no forward is made."""
    try:
        manifest = ReinforcedManifest.load(model.settings.data[0], one.set)
    except DataError as error:
        return Company(one.called, reason=f"{error.where}: {error.found}")
    sides = {e.name: {"image": e.image_width, "text": e.text_width} for e in manifest.teachers}
    widths = {f"{name}.{side}": width for name in one.teachers for side, width in sides.get(name, {}).items()}
    outputs = {name: base_of(name).rpartition(".")[2] for name in model.columns if base_of(name) in widths}
    size = _NUMBERS[manifest.dtype]
    row = sum(size * widths[base_of(name)] * model.entries(group_of(name)) for name in outputs)
    return Company(one.called, row=row, widths=widths)


KINDS: dict[str, Callable[[Any, Model, int], Company]] = {
    "ema": _ema,
    "momentum": _momentum,
    "stored": _stored,
    "teacher": _teacher,
}


def _outputs(called: str, columns: frozenset[str]) -> dict[str, str]:
    """Columns that are asked of it, and the outputs of its towers that they are."""
    mine = [name for name in columns if base_of(name) in (f"{called}.image", f"{called}.text")]
    return {name: named(group_of(name), base_of(name).rpartition(".")[2]) for name in mine}


def _row(outputs: dict[str, str], model: Model, width: int) -> float:
    return float(sum(F32 * width * model.entries(group_of(name)) for name in outputs))
