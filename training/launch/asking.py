"""On a terminal a person is asked before a run goes on with another recipe; jobs never wait for an answer."""

import sys
from collections.abc import Callable

from pipeline.errors import ClipmillError
from pipeline.outputs import CHECKPOINTS
from pipeline.recipe import Recipe
from training.changes.consent import found_changes, refusal, table, unaccepted
from training.changes.kept import kept_in
from training.changes.meaning import FOR_GOOD, under
from training.checkpoint.layout import STATE, read_complete, step_folders
from training.checkpoint.train_state import TrainState
from training.settings import TrainSettings


def on_a_terminal() -> bool:
    """Whether somebody can be asked, and can see the question."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def asked(recipe: Recipe, answer: Callable[[str], str] = input) -> Recipe:
    """The recipe, with consent to the changes that a person has agreed to. RecipeError when the answer is not yes.

    Looks at the newest finished checkpoint as it says of itself, before any rank is started. The run compares again,
    with the one that it has verified, and has the last word: so what cannot be told here is left to it.
    """
    settings = recipe.section("train", TrainSettings)
    state = None if settings.fresh else _newest(settings)
    if state is None or state.step >= settings.steps:
        return recipe
    found = found_changes(settings, state, kept_in(state, settings.output_path))
    left = unaccepted(found, settings.accept_changes)
    if not left or any(under(one.setting, name) for one in left for name in FOR_GOOD):
        return recipe
    print(f"step {state.step} of {settings.output} was made otherwise:\n{table(found)}", file=sys.stderr, flush=True)
    try:
        yes = answer("go on with what changes the numbers? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        yes = False
    if not yes:
        raise refusal(settings.output, left)
    accepted = settings.accept_changes if isinstance(settings.accept_changes, tuple) else ()
    names = [*accepted, *dict.fromkeys(one.setting for one in left)]
    return Recipe(recipe.source, {**recipe.data, "train": {**recipe.data["train"], "accept_changes": names}})


def _newest(settings: TrainSettings) -> TrainState | None:
    for folder in step_folders(settings.output_path / CHECKPOINTS):
        try:
            read_complete(folder)
            return TrainState.from_bytes((folder / STATE).read_bytes(), str(folder / STATE))
        except (ClipmillError, OSError):
            continue
    return None
