"""What `clipmill report` does: pages about whatever runs have left, in a folder or as the outputs of a recipe."""

import os
from typing import TYPE_CHECKING

from pipeline import outputs, storage
from pipeline import recipe as recipes
from pipeline.errors import DataError, RecipeError, UsageError
from pipeline.recipe import Recipe
from pipeline.recipe.variables import expand

if TYPE_CHECKING:
    from pipeline.report import Outputs


def report(recipe: Recipe) -> str:
    """The path of the report.html written from whatever this recipe's runs left behind."""
    from pipeline.report import write_data_card, write_report

    folders = outputs_of(recipe)
    homes = [folder for folder in folders.values() if folder]
    if not homes:
        raise RecipeError(recipe.source, "names no output folder", "a report needs curate.output or train.output")
    written = ""
    for home in homes:
        if os.path.isdir(home) or _is_remote_set(home):
            written = written or storage.join(home, outputs.REPORT)
            write_report(storage.join(home, outputs.REPORT), **folders, name=recipe.name)
    if folders["curate_output"]:
        write_data_card(folders["curate_output"], recipe.name)
    if not written:
        raise DataError(
            homes[0], "does not exist yet", "a report needs a finished run", f"clipmill run {recipe.source}"
        )
    return written


def report_at(target: str, overrides: list[str], against: str | None, out: str | None) -> str:
    """The path of the page written of what lies at `target`, a recipe or a folder: its report, or beside `against`
    their comparison. By default it lies with the outputs of `target`; `out` is another place."""
    from pipeline.report import write_comparison, write_data_card, write_report

    if against is None and out is None and not _is_folder(target):
        return report(recipes.load(target, overrides))
    mine = _left_by(target, overrides)
    if against is not None:
        return write_comparison(out or storage.join(mine.folders[0], outputs.COMPARISON), mine, _left_by(against, []))
    written = write_report(out or storage.join(mine.folders[0], outputs.REPORT), **mine._asdict())
    if mine.curate_output and out is None:
        write_data_card(mine.curate_output, mine.name)
    return written


def _is_folder(target: str) -> bool:
    return "://" in target or os.path.isdir(target)


def _left_by(target: str, overrides: list[str]) -> "Outputs":
    """The outputs at a folder, or of a recipe."""
    from pipeline.report import Outputs, outputs_in

    if _is_folder(target):
        if overrides:
            raise UsageError(overrides[0], "an output folder takes no overrides", "give a recipe, or the folder alone")
        return outputs_in(target)
    recipe = recipes.load(target, overrides)
    found = Outputs(recipe.name, **outputs_of(recipe))
    if not found.folders:
        raise RecipeError(recipe.source, "names no output folder", "a report needs curate.output or train.output")
    return found


def _is_remote_set(home: str) -> bool:
    """Whether a curated set lies in a store: folders are not there by themselves."""
    return storage.local_path(home) is None and storage.exists(storage.join(home, outputs.SUMMARY))


def outputs_of(recipe: Recipe) -> dict[str, str | None]:
    def output(section: str) -> str | None:
        found = recipe.data.get(section)
        value = found.get("output") if isinstance(found, dict) else None
        return expand(value, f"{recipe.source}: {section}.output") if isinstance(value, str) else None

    return {f"{section}_output": output(section) for section in ("curate", "train", "eval")}
