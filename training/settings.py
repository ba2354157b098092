"""The `train` and `eval` sections of a recipe, put together from the settings of their owners."""

import functools
import operator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.errors import RecipeError
from pipeline.outputs import CHECKPOINTS
from pipeline.settings import PathText, Settings, digest_of, one_of
from training.checkpoint.clock import CheckpointSettings
from training.companions import COMPANIONS
from training.companions.companion import CompanionSettings
from training.engine.optimizers import OPTIMIZERS
from training.engine.settings import EngineSettings
from training.evals import EVALS
from training.plan.plan import Plan
from training.plan.presets import PRESETS
from training.plan.stage import Stage
from training.reader.captions import CAPTION_POLICIES
from training.reader.images import ImageSettings
from training.reader.settings import ReaderSettings
from training.reader.stored.asked import StoredSet
from training.scheduled import first_off
from training.step.schedules import SCHEDULES
from training.terms import TERMS
from training.terms.term import TermSettings
from training.towers.abilities import check_able
from training.towers.settings import YOUNGER, ModelSettings, check_trainable
from training.wanted import Head, Scalar, Wanted, heads_of, scalars_of

if TYPE_CHECKING:
    from training.towers.towers import Towers

LATEST = "latest"
_GIVERS = "train.companions='[{kind: teacher, ...}]', or momentum with a queue; training/README.md lists them"
PARAM = "param"  # the weights as they are trained, of all that a checkpoint holds
WEIGHTS = (".pt", ".safetensors")


class BatchSettings(Settings):
    """`global` pairs a step over all ranks; `chunk` pairs a rank holds activations for at a time."""

    global_pairs: int = Field(alias="global", ge=2, le=1 << 31)
    chunk: int = Field(64, ge=1, le=1 << 31, description="sets memory, never the result")


if TYPE_CHECKING:
    from training.evals.evaluation import Evaluation as EvalSet
else:
    EvalSet = one_of(EVALS)


if TYPE_CHECKING:
    Terms = tuple[TermSettings, ...]
    Company = tuple[CompanionSettings, ...]
else:
    Term = one_of(TERMS)
    One = one_of(COMPANIONS)

    def _listed(kind: Any) -> BeforeValidator:
        """One of them may stand without a list around it."""
        as_list = lambda given: [given] if isinstance(given, dict) else given  # noqa: E731
        return BeforeValidator(as_list, json_schema_input_type=kind | list[kind])

    Terms = Annotated[tuple[Term, ...], Field(min_length=1), _listed(Term)]
    Company = Annotated[tuple[One, ...], _listed(One)]


class InLoopSettings(Settings):
    """Scores while training, into evals.jsonl. `sets` defaults to those of the recipe's `eval` section.

    `of`: the weights as they are, their averages (companions of kind ema: `<name>/` before the scores), or both.
    """

    of: Literal["weights", "ema", "both"] = "weights"
    every_steps: int | None = Field(None, ge=1)
    sets: list[EvalSet] | None = None
    batch: int = Field(256, ge=1, le=1 << 20)


class TrainSettings(Settings):
    """A training run. `output`, `checkpoint` and the ZeRO stage never change what is learnt.

    `stages`: parts of the run that differ in some settings; `preset`: such a list by its name. See `training/plan`.
    """

    data: list[PathText] = Field(min_length=1)
    output: PathText
    steps: int = Field(ge=1, le=10**12)
    model: ModelSettings
    image: ImageSettings = ImageSettings()
    batch: BatchSettings
    loss: Terms = (TERMS["softmax"](),)
    companions: Company = ()
    optimizer: one_of(OPTIMIZERS, "adamw") = OPTIMIZERS["adamw"]()  # type: ignore[valid-type]
    schedule: one_of(SCHEDULES, "cosine") = SCHEDULES["cosine"]()  # type: ignore[valid-type]
    stages: list[Stage] = []
    preset: one_of(PRESETS) | None = None  # type: ignore[valid-type]
    captions: one_of(CAPTION_POLICIES) = CAPTION_POLICIES["uniform"]()  # type: ignore[valid-type]
    reader: ReaderSettings = ReaderSettings()
    engine: EngineSettings = EngineSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    eval: InLoopSettings = InLoopSettings()
    on_nonfinite: Literal["skip", "stop"] = "skip"
    max_nonfinite: int = Field(10, ge=1, description="so many non-finite steps in a row stop the run even with `skip`")
    fresh: bool = Field(False, description="set earlier checkpoints of this output aside and start from step 0")
    accept_changes: bool | tuple[str, ...] = Field(
        False, description="what may differ from the checkpoint and change the numbers: [train.optimizer.lr], true: all"
    )

    @model_validator(mode="after")
    def _plan_holds(self) -> "TrainSettings":
        if self.stages and self.preset:
            raise RecipeError("train.preset", "there are stages too", "one of `stages` and `preset`", "leave one out")
        if self.stages or self.preset:
            _ = self.plan
        return self

    @functools.cached_property
    def plan(self) -> Plan:
        """The run as stages; without `stages` it is one."""
        made = self.preset.made(self.steps, self.optimizer.lr) if self.preset else self.stages
        return Plan(self, tuple(made) or (Stage(until=self.steps),))

    @model_validator(mode="after")
    def _terms_and_companions_fit(self) -> "TrainSettings":
        for where, every in (("train.loss", self.loss), ("train.companions", self.companions)):
            names = [one.called for one in every]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                hint = f"give one of them a name: {{kind: ..., name: other_{twice}}}"
                raise RecipeError(where, f"two are called {twice!r}", "a name of its own for each", hint)
        _ = self.scalars, self.heads  # terms that share one agree about it
        given = set().union(*(one.gives() for one in self.companions))
        lacking = sorted(name for name in self.wanted.columns if not {name, name.rpartition("/")[2]} & given)
        if lacking:
            found = f"a term wants {', '.join(lacking)}; companions give {', '.join(sorted(given)) or 'nothing'}"
            raise RecipeError("train.companions", found, "a companion that gives them", _GIVERS)
        _ = self.stored  # what it replays can be replayed
        if (config := self.model.known()) is not None:
            check_able(config, self.wanted.towers)
        if self.eval.of != "weights" and not any(isinstance(one, COMPANIONS["ema"]) for one in self.companions):
            found = f"{self.eval.of!r}, but no companion keeps an average"
            raise RecipeError("train.eval.of", found, "a companion of kind ema", "train.companions='[{kind: ema}]'")
        return self

    @property
    def model_digest(self) -> str:
        """Names what shapes the weights and what they are fed; a checkpoint refuses another."""
        return self._digest_of(self.model)

    @property
    def model_digests(self) -> frozenset[str]:
        """Of this model with its activations kept and computed again: the weights are the same."""
        ways = (self.model.model_copy(update={"grad_checkpointing": again}) for again in (False, True))
        return frozenset(map(self._digest_of, ways))

    def _digest_of(self, model_settings: ModelSettings) -> str:
        model = model_settings.model_dump(mode="json")
        model = {key: value for key, value in model.items() if value is not None or key not in YOUNGER}
        return digest_of({"model": model, "resize": self.image.resize})

    @property
    def output_path(self) -> Path:
        return Path(self.output)

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        """The trained numbers beside the towers, as the terms of the loss ask for them."""
        return scalars_of(scalar for term in self.loss for scalar in term.scalars())

    @property
    def heads(self) -> tuple[Head, ...]:
        """The layers behind the towers, as the terms of the loss ask for them."""
        return heads_of(head for term in self.loss for head in term.heads())

    @property
    def wanted(self) -> Wanted:
        """What the terms of the loss ask of the reader."""
        return functools.reduce(operator.or_, (term.wanted() for term in self.loss), Wanted())

    @property
    def stored(self) -> StoredSet | None:
        """The reinforced set to replay; its `locked` only where the image tower is. RecipeError for what cannot be."""
        sets = [one for companion in self.companions if (one := companion.of_reader())]
        if len(sets) > 1:
            found = f"two reinforced sets, {sets[0].name} and {sets[1].name}, each with views of its own"
            raise RecipeError("train.companions", found, "one; a set may have several teachers", "leave one out")
        if sets and (self.image.crop_scale[0] < 1 or self.image.flip):
            found, hint = (
                "crops or mirrors, but the views of a stored set are replayed",
                "leave crop_scale and flip out",
            )
            raise RecipeError("train.image", found, "pictures as they were stored; `clipmill reinforce` augments", hint)
        if not sets or sets[0].locked is None:
            return sets[0] if sets else None
        return self._with_locked(sets[0])

    def _with_locked(self, found: StoredSet) -> StoredSet:
        """Stored features stand for the image tower's where nothing else asks for pixels or draws anew."""
        if not self.model.lock_image:
            return replace(found, locked=None)
        pixels = [name for name in self.wanted.columns if name.endswith("image") and name not in found.gives()]
        drops = self.model.patch_dropout or (self.model.config or {}).get("vision_cfg", {}).get("patch_dropout")
        reasons = {
            "patch_dropout draws other patches in each epoch": bool(drops),
            "a term has a head behind the image tower": bool(self.heads),
            "a term wants further views, or a masked one": bool(self.wanted.views or self.wanted.masked),
            "a term wants what the image tower says of each patch": bool(self.wanted.towers),
            f"a companion has to look at pictures, for {', '.join(sorted(pixels))}": bool(pixels),
        }
        for reason, holds in reasons.items():
            if holds:
                expected = (
                    "a locked image tower that sees the same of a pair in each epoch, and nothing else that looks"
                )
                raise RecipeError("train.companions: stored.locked", reason, expected, "leave `locked` out")
        return found

    def towers(self, seed: int) -> "Towers":
        """The untrained towers, the same on every rank and machine."""
        from training.towers.build import build_towers

        towers = build_towers(self.model, seed, self.scalars, self.heads, self.wanted.masked)
        check_able(towers.config, self.wanted.towers)  # again: a name of a hub is known only now
        return towers

    def in_words(self) -> dict[str, Any]:
        """Informative settings that a checkpoint keeps."""
        words = {"schedule": self.schedule.model_dump(), "lr": self.optimizer.lr, "steps": self.steps}
        stages = [stage.model_dump(mode="json", exclude_defaults=True) for stage in self.plan.stages]
        return words | ({"stages": stages} if len(stages) > 1 else {})


class EvalSettings(Settings):
    """Scores of one checkpoint, and of the untrained model for comparison."""

    sets: list[EvalSet] = Field(min_length=1)
    output: PathText
    batch: int = Field(256, ge=1, le=1 << 20)
    checkpoint: PathText = Field(LATEST, description="latest, a step's folder, or an exported .pt or .safetensors")
    weights: str = Field(PARAM, min_length=1, description="param, or the name of an average that the run kept (ema)")
    before: bool = Field(True, description="also score the untrained model of the same seed, once")

    @model_validator(mode="after")
    def _names_differ(self) -> "EvalSettings":
        names = [one.name for one in self.sets]
        if len(set(names)) != len(names):
            raise ValueError(f"two sets share a name: {names}")
        return self


def check_training(settings: TrainSettings, processes: int | None, trains: bool = True) -> None:
    """RecipeError for what can be known wrong before any work: counts that do not fit, sets that are missing, and,
    unless they are only scored, towers that cannot be trained."""
    if trains:
        check_trainable(settings.model)
    if "://" in settings.output:
        expected = "a folder that all nodes share: a checkpoint appears by one rename"
        raise RecipeError("train.output", f"found {settings.output!r}", expected, "train.output=runs/my-run/train")
    pairs = min(stage.batch.global_pairs for stage in settings.plan.every)
    if processes and pairs < processes:
        expected = f"at least one pair for each of {processes} processes"
        raise RecipeError("train.batch.global", f"found {pairs}", expected, f"train.batch.global={64 * processes}")
    _check_locked(settings)
    if trains:
        _check_weighed(settings)
    for one in settings.eval.sets or []:
        one.check()


def _check_weighed(settings: TrainSettings) -> None:
    """At every step some term weighs something: there is nothing to go down else."""
    plan, steps = settings.plan, settings.steps
    for number, (stage, resolved) in enumerate(zip(plan.stages, plan.every, strict=True)):
        span = range(plan.start_of(number), stage.until)
        off = first_off([term.weight for term in resolved.loss], steps, span)
        if off is not None:
            found = f"no term weighs anything at step {off} of {steps}"
            raise RecipeError(
                "train.loss", found, "a term with a weight above 0 at every step", "train.loss.0.weight=1"
            )


def _check_locked(settings: TrainSettings) -> None:
    """Where features of a locked image tower are stored, it has to be locked, and from the first step on: a tower that
    was trained before gives others."""
    if not any(one and one.locked for one in (companion.of_reader() for companion in settings.companions)):
        return
    locked = [stage.model.lock_image for stage in settings.plan.every]
    if not locked[0] or locked != sorted(locked, reverse=True):
        found = "the image tower is not locked" if not any(locked) else "the image tower is trained before it is locked"
        hint = "train.model.lock_image=true, or train.preset.kind=lit; or leave `locked` out"
        raise RecipeError("train.companions: stored.locked", found, "one that is locked from the first step on", hint)


def check_evaluation(settings: EvalSettings, train_output: str | None) -> None:
    """RecipeError when an evaluation set is not there, or `checkpoint` names what can be no checkpoint."""
    for one in settings.sets:
        one.check()
    path = Path(settings.checkpoint)
    if settings.checkpoint == LATEST or (path.suffix in WEIGHTS and path.is_file()):
        return
    of_this_run = train_output is not None and path.parent == Path(train_output) / CHECKPOINTS
    if path.name.startswith("step-") and (path.is_dir() or of_this_run):  # training may still be to come
        return
    expected = f"`{LATEST}`, the folder of a step, or a file ending in {' or '.join(WEIGHTS)}"
    raise RecipeError("eval.checkpoint", f"found {settings.checkpoint!r}", expected, f"eval.checkpoint={LATEST}")
