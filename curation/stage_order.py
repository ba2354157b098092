"""Stages in a row: the names they are reported under, and whether each finds what it reads."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from curation.stage import IMAGE, Stage
from curation.table import schemas
from pipeline.errors import RecipeError, raise_all


def names_of(stages: Sequence[Stage]) -> list[str]:
    """The name a stage is reported under: its kind, and from the second of a kind on kind-2, kind-3, ..."""
    seen: dict[str, int] = {}
    names = []
    for stage in stages:
        seen[stage.kind] = seen.get(stage.kind, 0) + 1
        names.append(stage.kind if seen[stage.kind] == 1 else f"{stage.kind}-{seen[stage.kind]}")
    return names


def check_stages(stages: Sequence[Stage], kinds: Iterable[Any] = (), where: str = "curate.stages") -> None:
    """Every column read exists, every column added is new, every file can be read, models load; else RecipeError with
    all that a look can find, or if that is nothing, with what was tried and failed.

    `kinds` are the stages a recipe could use: the hint names the one that adds a missing column.
    """
    raise_all(faults_of(stages, kinds, where))
    try_out(stages, where)


def faults_of(stages: Sequence[Stage], kinds: Iterable[Any] = (), where: str = "curate.stages") -> list[RecipeError]:
    """What a look at the stages and their files finds: the first fault of their order, and those of each by itself."""
    faults = []
    for at, stage in enumerate(stages):
        try:
            stage.check(f"{where}.{at}", stages[:at])
        except RecipeError as error:
            faults.append(error)
    try:
        _check_order(stages, kinds, where)
    except RecipeError as error:
        if error.where.startswith(where) or not faults:  # else a stage has said already why it knows no columns
            faults.insert(0, error)
    return faults


def try_out(stages: Sequence[Stage], where: str = "curate.stages") -> None:
    """What takes more than a look: RecipeError of the first that fails."""
    for at, stage in enumerate(stages):
        stage.try_out(f"{where}.{at}")


def _check_order(stages: Sequence[Stage], kinds: Iterable[Any], where: str) -> None:
    known = {IMAGE, *schemas.PAIRS.names, *(f"captions.{f.name}" for f in schemas.CAPTION_FIELDS)}
    added_by = {name: kind.model_fields["kind"].default for kind in kinds for name in added(kind)}
    for at, stage in enumerate(stages):
        here = f"{where}.{at} ({stage.kind})"
        for name in stage.reads:
            if name not in known:
                by = added_by.get(name)
                near = difflib.get_close_matches(name, known, 1)
                hint = f"put `{by}` before it" if by else "add the stage that measures it before this one"
                hint += f", or did you mean `{near[0]}`?" if near and not by else ""
                raise RecipeError(here, f"reads the column `{name}`, which does not exist yet", "", hint)
        for name in added(stage):
            if name in known:
                found = f"adds the column `{name}`, which exists already"
                raise RecipeError(here, found, "", f"remove one `{stage.kind}`")
            known.add(name)


def added(stage: Stage | type[Stage]) -> list[str]:
    """The columns that a stage adds, as others read them; of a kind whose settings name them none."""
    prefix = "captions." if stage.caption_fields else ""
    names = () if isinstance(stage.added_names, property) else stage.added_names
    if not names and not isinstance(stage.adds, property):
        names = tuple(f.name for f in stage.adds)
    return [prefix + name for name in names]
