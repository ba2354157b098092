"""A run as a list of stages: which one a step is in, and the settings that count there. Pure functions of the step."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from pipeline.errors import RecipeError
from training.plan.stage import Stage, merged
from training.wanted import Head, Scalar

MOST_LANES = 1024


@dataclass(frozen=True)
class Plan:
    """`base`: the `train` section; `stages`: at least one. `base` is of TrainSettings, which this room stands below."""

    base: Any
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        """RecipeError, naming the stage, for a plan that cannot be carried out."""
        ends = [stage.until for stage in self.stages]
        for number, (one, other) in enumerate(zip(ends, ends[1:], strict=False), 1):
            if other <= one:
                raise RecipeError(f"{_where(number)}.until", f"found {other}", f"more than the stage before, {one}")
        steps, last = self.base.steps, len(ends) - 1
        if ends[-1] != steps:
            expected = f"the last stage ends with the run, at train.steps={steps}"
            raise RecipeError(f"{_where(last)}.until", f"found {ends[-1]}", expected, f"{_where(last)}.until={steps}")
        for number in range(len(self.stages)):
            self._check_moments(number)

    @cached_property
    def every(self) -> list[Any]:
        """The `train` section of each stage."""
        everything = self.base.model_dump(exclude_unset=True, by_alias=True)
        plain = {key: value for key, value in everything.items() if key not in ("stages", "preset")}
        kinds = {key: kind for key in plain if (kind := getattr(getattr(self.base, key), "kind", None))}
        plain |= {key: plain[key] | {"kind": kind} for key, kind in kinds.items()}
        found = []
        for number, stage in enumerate(self.stages):
            changes = stage.changes(_where(number))
            if len(self.stages) == 1 and not changes:
                return [self.base]
            try:
                found.append(type(self.base).model_validate(merged(plain, changes)))
            except RecipeError as error:  # what fits together in the other stages does not in this one
                where = f"{_where(number)}: {error.where}"
                raise RecipeError(where, error.found, error.expected, error.hint) from None
            except ValidationError as error:
                fault = error.errors(include_url=False)[0]
                tags = {*kinds.values(), *(one["kind"] for one in changes.values() if "kind" in one)}
                path = ".".join([_where(number), *(str(word) for word in fault["loc"] if word not in tags)])
                words = fault["msg"].removeprefix("Value error, ")
                raise RecipeError(path, f"found {fault['input']!r}", words[:1].lower() + words[1:]) from None
        return found

    def _check_moments(self, number: int) -> None:
        now = self.every[number]
        if number == 0 or self.stages[number].moments == "fresh":
            return
        before = self.every[number - 1]
        reasons = [f"trains the {tower} tower, which was locked before" for tower in ("image", "text")
                   if getattr(before.model, f"lock_{tower}") and not getattr(now.model, f"lock_{tower}")]  # fmt: skip
        if before.optimizer.kind != now.optimizer.kind:
            reasons.append(f"goes from {before.optimizer.kind} to {now.optimizer.kind}")
        added = sorted(one.name for one in _beside(now) - _beside(before))
        if added:
            reasons.append(f"its loss trains {', '.join(added)}, which the one before does not")
        if reasons:
            why = "what the optimizer knows, and how many steps it has counted, would be true of some parameters only"
            raise RecipeError(_where(number), reasons[0], why, f"{_where(number)}.moments=fresh")

    def number_at(self, step: int) -> int:
        """The stage that step `step` (from 0) belongs to; the last one for steps past the end."""
        return min(bisect_right([stage.until for stage in self.stages], step), len(self.stages) - 1)

    def stage_at(self, step: int) -> Stage:
        return self.stages[self.number_at(step)]

    def resolved(self, step: int) -> Any:
        """The `train` section that counts for `step`: the base with what its stage changes."""
        return self.every[self.number_at(step)]

    def of_checkpoint(self, done: int) -> Any:
        """The `train` section under which a checkpoint of `done` steps was written."""
        return self.resolved(max(0, done - 1))

    def start_of(self, number: int) -> int:
        """The first step of a stage."""
        return self.stages[number - 1].until if number else 0

    def begins_at(self, step: int) -> bool:
        """Whether `step` is the first of a stage that another one came before."""
        return any(step == stage.until for stage in self.stages[:-1])

    def lr_at(self, step: int) -> float:
        """The learning rate of a step."""
        number = self.number_at(step)
        settings, stage, start = self.every[number], self.stages[number], self.start_of(number)
        if stage.clock == "stage":
            return settings.schedule.lr_at(step - start, settings.optimizer.lr, stage.until - start)
        return settings.schedule.lr_at(step, settings.optimizer.lr, self.base.steps)

    def jump_at(self, step: int, before: float | None) -> str | None:
        """In words, when `before`, the learning rate that step - 1 had, is not this plan's: other settings made it."""
        if not step or before is None or math.isclose(before, self.lr_at(step - 1), rel_tol=1e-6, abs_tol=1e-15):
            return None
        now, peak = self.lr_at(step), self.resolved(step).optimizer.lr or 1.0
        shares = f"({before / peak:.0%} and {now / peak:.0%} of its peak)"
        return (
            f"the learning rate goes from {before:.3g} in step {step - 1} to {now:.3g} in step {step} {shares}:"
            " train.steps, train.schedule or train.optimizer.lr are others than before; schedules made for going on are"
            " constant and wsd"
        )

    def pairs_before(self, step: int) -> int:
        """Pairs drawn by the steps before `step`, repeats included."""
        total = 0
        for number, stage in enumerate(self.stages):
            start = self.start_of(number)
            end = step if number == len(self.stages) - 1 else min(step, stage.until)
            total += max(0, end - start) * self.every[number].batch.global_pairs
        return total

    def origin(self, step: int) -> tuple[int, int]:
        """(first step of the stage of `step`, pairs drawn before it): where the reader counts from."""
        start = self.start_of(self.number_at(step))
        return start, self.pairs_before(start)

    @property
    def lanes(self) -> int | None:
        """Lanes that divide every stage's batch: the recipe's, else the most there are (None: the reader's own)."""
        given = self.base.reader.lanes
        if given is not None or len(self.stages) == 1:
            return given
        common = math.gcd(*(one.batch.global_pairs for one in self.every))
        return max(lanes for lanes in range(1, min(common, MOST_LANES) + 1) if common % lanes == 0)


def _beside(settings: Any) -> set[Head | Scalar]:
    """What the loss trains beside the towers; where a scalar begins, and its limits, make it no other one."""
    return {*(Scalar(one.name, 0.0) for one in settings.scalars), *settings.heads}


def _where(number: int) -> str:
    return f"train.stages.{number}"
