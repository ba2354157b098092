"""Chains: several prompts one after the other, written once. Where settings are read they become their stages.

    - {kind: generate, chain: builtin:caption_then_fuse, name: recap, backend: {...}}
    - {kind: generate, chain: our/chain.yaml, ...}           a YAML list of steps
    - {kind: generate, chain: [{prompt: ..., ...}, ...], ...}

A step is the settings of a stage `generate` but for its `kind`; what is said beside `chain` holds for every step that
does not say it itself (a backend is put together field by field, unless the step says another kind). `name` is the last
step's; the others say their own.
"""

import difflib
from importlib import resources
from typing import Any

from pydantic import ValidationError

from curation.stage import Stage
from pipeline.errors import RecipeError, one_line
from pipeline.recipe.document import parsed
from pipeline.recipe.faults import explained

BUILTIN = "builtin:"


def expanded(stages: Any, model: type[Stage]) -> Any:
    """The stages of a recipe with each chain replaced by its steps, each of which is a `model`. RecipeError says which
    step of which chain is wrong."""
    if not isinstance(stages, list):
        return stages
    found: list[Any] = []
    for at, stage in enumerate(stages):
        found += _steps(stage, f"curate.stages.{at}.chain", model) if _is_chain(stage) else [stage]
    return found


def _is_chain(stage: Any) -> bool:
    return isinstance(stage, dict) and "chain" in stage


def _steps(stage: dict[str, Any], where: str, model: type[Stage]) -> list[dict[str, Any]]:
    shared = {name: value for name, value in stage.items() if name != "chain"}
    if shared.get("kind") != "generate":
        raise RecipeError(where, f"stands in a stage {shared.get('kind')!r}", "expected it in a stage `generate`")
    chain = stage["chain"]
    steps = chain if isinstance(chain, list) else _read(str(chain), where)
    source = "" if isinstance(chain, list) else f" ({chain})"
    if not steps or not all(isinstance(step, dict) for step in steps):
        expected = "expected a list of steps, each with a prompt or a backend of its own"
        raise RecipeError(f"{where}{source}", "holds no steps" if not steps else "has a step that is none", expected)
    places = [f"{where}{source}, step {at + 1} of {len(steps)}" for at in range(len(steps))]
    made = [
        _whole(step, shared, at == len(steps) - 1, place)
        for at, (step, place) in enumerate(zip(steps, places, strict=True))
    ]
    _check_order([_checked(each, place, model) for each, place in zip(made, places, strict=True)], places)
    return made


def _whole(step: dict[str, Any], shared: dict[str, Any], is_last: bool, place: str) -> dict[str, Any]:
    if _is_chain(step):
        raise RecipeError(place, "is a chain itself", "expected a step", "write its steps in its place")
    whole = {**shared, **step, "kind": "generate"}
    mine, theirs = step.get("backend"), shared.get("backend")
    if isinstance(mine, dict) and isinstance(theirs, dict) and mine.get("kind") in (None, theirs.get("kind")):
        whole["backend"] = {**theirs, **mine}
    if is_last and "name" in shared:
        whole["name"] = shared["name"]
    elif "name" not in step:
        hint = "name: ... in the step; only the last one takes the chain's"
        raise RecipeError(place, "has no name", "expected one for what it says", hint)
    return whole


def _checked(step: dict[str, Any], place: str, model: type[Stage]) -> Stage:
    try:
        stage = model.model_validate(step)
    except ValidationError as error:
        raise explained(error, place, "generate", step, model) from None
    try:
        _ = stage.reads  # looks at the template
    except RecipeError as error:
        raise RecipeError(f"{place}: {error.where}", error.found, error.expected, error.hint) from None
    return stage


def _check_order(steps: list[Stage], places: list[str]) -> None:
    """No step reads what it makes itself, or a later one."""
    made_by = {field.name: at for at, step in enumerate(steps) for field in step.adds}
    for at, step in enumerate(steps):
        for name in step.reads:
            if (by := made_by.get(name, -1)) >= at:
                found = f"reads the column `{name}`, which " + (
                    "it makes itself" if by == at else f"step {by + 1} makes"
                )
                hint = f"put step {by + 1} before it" if by > at else "let it read what an earlier step has made"
                raise RecipeError(places[at], found, "expected steps in the order in which they read each other", hint)


def _read(setting: str, where: str) -> list[Any]:
    known = [f"{BUILTIN}{name}" for name in builtin_chains()]
    expected = f"expected a YAML list of steps, or one of {', '.join(known)}"
    try:
        if setting.startswith(BUILTIN) and setting in known:
            folder = resources.files("curation.generation") / "chains"
            text = (folder / f"{setting.removeprefix(BUILTIN)}.yaml").read_text("utf-8")
        elif setting.startswith(BUILTIN):
            near = difflib.get_close_matches(setting, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else ""
            raise RecipeError(where, f"no chain {setting} comes with clipmill", expected, hint)
        else:
            with open(setting, encoding="utf-8") as file:
                text = file.read()
        found = parsed(text)
    except OSError as error:
        raise RecipeError(where, f"cannot read {setting}: {error.strerror}", expected) from None
    except ValueError as error:
        raise RecipeError(where, f"{setting}: {one_line(error)}", expected) from None
    if not isinstance(found, list):
        raise RecipeError(where, f"{setting} holds {type(found).__name__}", expected)
    return found


def builtin_chains() -> list[str]:
    folder = resources.files("curation.generation") / "chains"
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))
