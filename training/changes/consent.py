"""Going on from a checkpoint with another recipe: what differs is shown, and what changes the numbers needs a yes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError
from pipeline.log import get_logger
from pipeline.recipe.differences import short
from training.changes.compare import Change, changes, raw_changes
from training.changes.kept import Kept, kept_in, public, versions
from training.changes.meaning import under
from training.checkpoint.train_state import TrainState
from training.settings import TrainSettings

log = get_logger("train")
_WORDS = {"none": "changes nothing learnt", "rounding": "changes roundings", "learning": "CHANGES WHAT IS LEARNT"}
_NAMED = 6  # settings in a hint; beyond, their sections


def found_changes(settings: TrainSettings, state: TrainState, kept: Kept) -> list[Change]:
    """Of recipe, ranks and packages between a checkpoint and the run that goes on from it."""
    if kept.settings is not None:
        found = changes(kept.settings, settings, state.step)
    elif kept.raw is not None:
        found = raw_changes(kept.raw, settings)
    else:
        found = []
    now = versions()
    package = "a package may round otherwise"
    return found + [
        Change(name, was, now[name], "rounding", package)
        for name, was in kept.versions.items() if name in now and was != now[name]
    ]  # fmt: skip


def of_ranks(was: int, now: int, drawn: bool) -> list[Change]:
    """Another number of ranks. `drawn`: the towers draw inside (dropout), keyed by chunks, which are cut otherwise."""
    why = "dropout is drawn by the chunk: other masks, of the same odds" if drawn else "the same sums in another order"
    return [Change("ranks", was, now, "rounding", why)] if was != now else []


def with_draws(found: Iterable[Change], drawn: bool) -> list[Change]:
    """As they are for towers that draw by the chunk: another chunk is then other draws."""
    chunk = "dropout is drawn by the chunk"
    return [
        Change(one.setting, one.was, one.now, "learning", chunk, one.steps)
        if drawn and one.setting == "train.batch.chunk" else one
        for one in found
    ]  # fmt: skip


def unaccepted(found: Iterable[Change], accepted: bool | tuple[str, ...]) -> list[Change]:
    """Those that change what is learnt and that nobody has said yes to."""
    asked = [change for change in found if change.effect == "learning"]
    if isinstance(accepted, bool):
        return [] if accepted else asked
    named = [name if name.split(".")[0] == "train" else f"train.{name}" for name in accepted]
    return [change for change in asked if not any(under(change.setting, name) for name in named)]


def table(found: list[Change]) -> str:
    """One line a change: setting, was, is, and what that does."""
    rows = [("setting", "was", "is", "")]
    for one in found:
        where = f" (steps {one.steps[0]} to {one.steps[1] - 1})" if one.steps else ""
        rows.append((one.setting + where, _word(one.was, 32), _word(one.now, 32), f"{_WORDS[one.effect]}: {one.why}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]
    return "\n".join(f"  {line.rstrip()}" for line in lines)


def _word(value: Any, limit: int) -> str:
    """Of a value; addresses without what is secret in them."""
    return short(public(value), limit)


def refusal(where: str, left: list[Change]) -> RecipeError:
    """What to say of changes without consent, and what to type."""
    told = "; ".join(f"{one.setting} {_word(one.was, 60)} -> {_word(one.now, 60)} ({one.why})" for one in left)
    names = list(dict.fromkeys(one.setting for one in left))
    if len(names) > _NAMED:
        names = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
    hints = list(dict.fromkeys(one.hint for one in left if one.hint))
    hints.append(f"to go on with them all the same: train.accept_changes='[{', '.join(names)}]'")
    hints.append("to train anew: another train.output")
    found = f"was made with another recipe: {told}"
    return RecipeError(where, found, "the recipe of the checkpoint, or consent to the changes", "; ".join(hints))


def compared(settings: TrainSettings, state: TrainState, folder: Path, ranks: int, drawn: bool) -> list[Change]:
    """What differs from the checkpoint in `folder`, told on the terminal. RecipeError for what changes the numbers
    without consent (`train.accept_changes`). `drawn`: the towers draw by the chunk.
    """
    kept = kept_in(state, settings.output_path)
    found = with_draws([*found_changes(settings, state, kept), *of_ranks(state.world, ranks, drawn)], drawn)
    left = unaccepted(found, settings.accept_changes)
    if kept.assumed:
        log.info("%s: %s", folder.name, kept.assumed)
    if found:
        log.info("%s was made otherwise:\n%s", folder.name, table(found))
    if left:
        raise refusal(str(folder), left)
    return found
