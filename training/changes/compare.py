"""How two recipes of one run differ: they must say the same of every step of which both speak.

The recipe of a checkpoint speaks of the steps it was made for, and the one that goes on of its own. What neither says
of a step that the other has is new and contradicts nothing: so a run may be made longer, if the steps that are done
would have been the same.
"""

from dataclasses import dataclass, replace
from typing import Any

from pipeline.recipe.differences import differences
from training.changes.kept import public
from training.changes.meaning import BESIDE, Effect, meaning_of, under
from training.plan.plan import Plan
from training.scheduled import progress_of, value_at
from training.settings import TrainSettings

_MOST = 4096  # steps looked at, evenly spread, where there are more
Span = tuple[int, int]  # of steps, the last one exclusive


@dataclass(frozen=True)
class Change:
    """Of one setting, by its dotted path in a recipe. `steps`: where both recipes have stages, those it is of."""

    setting: str
    was: Any
    now: Any
    effect: Effect
    why: str
    steps: Span | None = None
    hint: str = ""


def changes(was: TrainSettings, now: TrainSettings, start: int) -> list[Change]:
    """What differs for a run that goes on at step `start`, in the order of the recipe."""
    both = min(was.steps, now.steps)
    ends = {stage.until for plan in (was.plan, now.plan) for stage in plan.stages if stage.until < both}
    edges = [0, *sorted(ends), both]
    found: dict[tuple[str, str, str], Change] = {}
    for a, b in zip(edges, edges[1:], strict=False):
        for change in _of_settings(was.plan.resolved(a), now.plan.resolved(a)):
            key = change.setting, repr(change.was), repr(change.now)
            before = found.get(key)
            first, last = before.steps if before and before.steps else (a, b)
            found[key] = replace(change, steps=(min(first, a), max(last, b)))
    whole = (0, both)
    each = [replace(change, steps=None) if change.steps == whole else change for change in found.values()]
    return [*each, *_of_length(was, now, start), *_of_stages(was.plan, now.plan, start, both)]


def raw_changes(was: dict[str, Any], now: TrainSettings) -> list[Change]:
    """As `changes` of a recipe that this clipmill cannot read as settings: what is written, leaf by leaf."""
    told = public(now.model_dump(mode="json", by_alias=True))
    return [_change(one.path, one.before, one.now) for one in differences(was, told, ignored=("accept_changes",))]


def _of_settings(was: TrainSettings, now: TrainSettings) -> list[Change]:
    old, new = (public(one.model_dump(mode="json", by_alias=True)) for one in (was, now))
    found = [_change(one.path, one.before, one.now) for one in differences(old, new, ignored=BESIDE)]
    rounded = any(getattr(term, "wire", "fp32") != "fp32" for one in (was, now) for term in one.loss)
    return [
        replace(change, effect="learning", why="other features are rounded on the wire")
        if rounded and under(change.setting, "train.loss.*.exchange") else change
        for change in found
    ]  # fmt: skip


def _change(path: str, was: Any, now: Any) -> Change:
    return Change(f"train.{path}", was, now, *meaning_of(path))


def _of_length(was: TrainSettings, now: TrainSettings, start: int) -> list[Change]:
    """Another number of steps: what is said as a share of the run moves, and with it perhaps what was done."""
    if was.steps == now.steps:
        return []
    change = Change("train.steps", was.steps, now.steps, "none", "the steps that are done would have been the same")
    steps = _spread(range(start))
    moved = next((step for step in steps if _other_rate(was.plan, now.plan, step)), None)
    if moved is not None:
        rates = " and ".join(f"{plan.lr_at(start - 1):.3g}" for plan in (was.plan, now.plan))
        kind = was.plan.resolved(start - 1).schedule.kind
        why = f"with so many steps {kind} is another curve: the rate of step {start - 1} is {rates}"
        return [replace(change, effect="learning", why=why, hint=_going_on(was, now, start))]
    for step in steps:
        old, new = (one.plan.resolved(step) for one in (was, now))
        at = [progress_of(step, one.steps) for one in (was, now)]
        if old.captions.varies or new.captions.varies:
            return [replace(change, effect="learning", why="captions follow the share of the steps that is done")]
        if any(value_at(term.weight, at[0]) != value_at(term.weight, at[1]) for term in old.loss):
            return [replace(change, effect="learning", why="a term's weight follows the share of the steps done")]
    return [change]


def _going_on(was: TrainSettings, now: TrainSettings, start: int) -> str:
    """What to type for a longer run whose schedule was made for the shorter one."""
    if start != was.steps or now.steps <= start or len(was.plan.stages) > 1 or len(now.plan.stages) > 1:
        return "schedules made for going on are constant and, before its decay, wsd"
    stages = f"[{{until: {start}, clock: stage}}, {{until: {now.steps}, clock: stage}}]"
    return f"to go on in a stage with a schedule of its own: train.stages='{stages}'"


def _of_stages(was: Plan, now: Plan, start: int, both: int) -> list[Change]:
    """Stages that begin, end or are timed in another way, where that makes another step of any that both speak of."""
    if len(was.stages) == len(now.stages) == 1 and was.stages[0].clock == now.stages[0].clock:
        return []
    begun = [_begun(plan, start, both) for plan in (was, now)]
    for begin in sorted({*begun[0], *begun[1]}):
        old, new = (one.get(begin, ("keep", "keep_first")) for one in begun)
        if old != new:
            before, after = (f"{' '.join(one)} at step {begin}" for one in (old, new))
            return [Change("train.stages", before, after, "learning", "the stage that begins there begins otherwise")]
    ahead = range(start, both) if was.base.steps == now.base.steps else range(0)
    for step in [*_spread(range(start)), *_spread(ahead)]:
        if _other_rate(was, now, step):
            before, after = (f"{plan.lr_at(step):.3g} in step {step}" for plan in (was, now))
            return [Change("train.stages", before, after, "learning", "another learning rate")]
    timed = {"until", "clock", "moments", "stretch"}
    old_stages, new_stages = ([stage.model_dump(include=timed) for stage in plan.stages] for plan in (was, now))
    if old_stages == new_stages:
        return []
    before, after = (f"{len(plan.stages)} stages" for plan in (was, now))
    return [Change("train.stages", before, after, "none", "the steps of both recipes are the same")]


def _begun(plan: Plan, start: int, both: int) -> dict[int, tuple[str, str]]:
    """How the stages that are still to begin do so, by their first step."""
    first = {plan.start_of(number): stage for number, stage in enumerate(plan.stages) if number}
    return {at: (stage.moments, stage.stretch) for at, stage in first.items() if start <= at < both}


def _other_rate(was: Plan, now: Plan, step: int) -> bool:
    """Whether the rates differ by more than settings which differ themselves, and are told apart, explain."""
    one, other = was.resolved(step), now.resolved(step)
    if one.schedule != other.schedule or one.optimizer.lr != other.optimizer.lr:
        return False
    return abs(was.lr_at(step) - now.lr_at(step)) > 1e-9 * max(was.lr_at(step), now.lr_at(step))


def _spread(steps: range) -> list[int]:
    """All of them, or so many, the first and the last among them."""
    if len(steps) <= _MOST:
        return list(steps)
    return [steps[at * (len(steps) - 1) // (_MOST - 1)] for at in range(_MOST)]
