"""What each command does: opens a section of the recipe with its owner's settings and calls the owner's door.

Imports of curation and training stand inside functions: each command loads only the half that it needs.
"""

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline import recipe as recipes
from pipeline.contract.manifest import Manifest
from pipeline.errors import DataError, RecipeError, Stopped, UsageError
from pipeline.log import get_logger
from pipeline.outputs import RECIPE
from pipeline.recipe import Recipe
from pipeline.storage import exists, join, json_object, publish_bytes, publish_json, read_bytes

log = get_logger("jobs")


def curate(recipe: Recipe) -> Manifest:
    """Curated shards in `curate.output`, and their report."""
    from curation.runner.driver import curate as curate_all
    from curation.settings import CurateSettings

    settings = recipe.section("curate", CurateSettings)
    manifest = curate_all(settings, name=recipe.name, seed=recipe.seed)
    publish_bytes(join(settings.output, RECIPE), _without_fresh(recipe).as_yaml().encode())
    report(recipe)
    return manifest


def _without_fresh(recipe: Recipe) -> Recipe:
    """As it is saved: whoever runs it once more does not ask for everything once more."""
    curation = {name: value for name, value in recipe.data["curate"].items() if name != "fresh"}
    return Recipe(recipe.source, {**recipe.data, "curate": curation})


def train(name: str, overrides: list[str]) -> None:
    """A trained run in `train.output`; raises by exit code if a rank failed."""
    from training.launch.launcher import run as launch

    _leave("train", launch("train", name, overrides))
    if _is_first_rank():
        report(recipes.load(name, overrides))


def evaluate(name: str, overrides: list[str]) -> None:
    """`eval.json` in `eval.output`."""
    from training.launch.launcher import run as launch

    _leave("eval", launch("eval", name, overrides))
    if _is_first_rank():
        report(recipes.load(name, overrides))


def run(name: str, overrides: list[str]) -> None:
    """Every section that the recipe has, in order, then the summary on the terminal. Done before: only the summary."""
    recipe = recipes.load(name, overrides)
    if _is_done(recipe):
        print(f"{recipe.name}: finished before, nothing to do")
    else:
        log.info("checking %s", recipe.source)
        check(recipe, quiet=True)
        manifest = curate(recipe) if recipe.has("curate") else None
        if recipe.has("train"):
            train(name, overrides)
        if recipe.has("eval"):
            evaluate(name, overrides)
        publish_json(_marker(recipe), {"recipe": recipes.digest(recipe), "manifest": manifest and manifest.digest()})
    from pipeline.report.summary import summary_table

    Console().print(summary_table(**_outputs(recipe), name=recipe.name, report=report(recipe)))


def _marker(recipe: Recipe) -> str:
    """A file in the output of the last section, which says that a run of this recipe went through."""
    return join([folder for folder in _outputs(recipe).values() if folder][-1], "finished.json")


def _is_done(recipe: Recipe) -> bool:
    """Found without torch or Ray, so that a finished run says so at once."""
    outputs = [folder for folder in _outputs(recipe).values() if folder]
    if not outputs or not exists(_marker(recipe)):
        return False
    told = json_object(read_bytes(_marker(recipe))) or {}  # damaged: every section looks for itself
    if told.get("recipe") != recipes.digest(recipe) or not all(exists(folder) for folder in outputs):
        return False
    if not recipe.has("curate"):
        return True
    from curation.runner.driver import finished
    from curation.settings import CurateSettings

    manifest = finished(recipe.section("curate", CurateSettings), seed=recipe.seed)
    return manifest is not None and manifest.digest() == told.get("manifest")


def check(recipe: Recipe, quiet: bool = False) -> None:
    """Every section validated, inputs found, columns available; raises before any work would start."""
    known = [section for section in ("curate", "train", "eval") if recipe.has(section)]
    if not known:
        raise RecipeError(recipe.source, "has none of the sections curate, train, eval", "a recipe needs one")
    if recipe.has("curate"):
        from curation.runner.driver import check as check_curation
        from curation.settings import CurateSettings

        check_curation(recipe.section("curate", CurateSettings))
    if recipe.has("train"):
        from training.settings import TrainSettings, check_training

        check_training(recipe.section("train", TrainSettings))
    if recipe.has("eval"):
        from training.settings import EvalSettings, check_evaluation

        check_evaluation(recipe.section("eval", EvalSettings))
    if not quiet:
        print(f"{recipe.source}: ok ({', '.join(known)})")


def report(recipe: Recipe) -> str:
    """The path of the report.html written from whatever this recipe's runs left behind."""
    from pipeline.report import write_report

    outputs = _outputs(recipe)
    homes = [folder for folder in outputs.values() if folder]
    if not homes:
        raise RecipeError(recipe.source, "names no output folder", "a report needs curate.output or train.output")
    written = ""
    for home in homes:
        if os.path.isdir(home):
            written = written or f"{home}/report.html"
            write_report(f"{home}/report.html", **outputs, name=recipe.name)
    if not written:
        raise DataError(
            homes[0], "does not exist yet", "a report needs a finished run", f"clipmill run {recipe.source}"
        )
    return written


def _outputs(recipe: Recipe) -> dict[str, str | None]:
    def output(section: str) -> str | None:
        found = recipe.data.get(section)
        value = found.get("output") if isinstance(found, dict) else None
        return recipes.expand(value, f"{recipe.source}: {section}.output") if isinstance(value, str) else None

    return {f"{section}_output": output(section) for section in ("curate", "train", "eval")}


def export(run_folder: str, out: str) -> None:
    from training.export import export as export_weights

    print(export_weights(run_folder, out))


def schema() -> dict[str, Any]:
    """JSON Schema of a whole recipe."""
    from pydantic import Field, create_model

    from curation.settings import CurateSettings
    from pipeline.settings import Settings
    from training.settings import EvalSettings, TrainSettings

    model = create_model(
        "Recipe",
        __base__=Settings,
        name=(str, Field("recipe", description="names the run; the file's name by default")),
        seed=(int, Field(0, description="keys every random draw")),
        curate=(CurateSettings | None, None),
        train=(TrainSettings | None, None),
        eval=(EvalSettings | None, None),
    )
    return model.model_json_schema()


def show_step(recipe: Recipe, step: int) -> None:
    """One line a pair: a table on a terminal, tab-separated elsewhere."""
    from training.replay import show
    from training.settings import TrainSettings

    heads = ("lane", "epoch", "uid", "shard", "key", "caption")
    rows = [
        (str(row.lane), str(row.epoch), row.uid, row.shard, row.key, row.caption)
        for row in show(recipe.section("train", TrainSettings), recipe.seed, step)
    ]
    console = Console()
    if console.is_terminal:
        table = Table(*heads, title=f"step {step}", box=None)
        for row in rows:
            table.add_row(*map(escape, row))
        console.print(table)
    else:
        for row in (heads, *rows):
            print("\t".join(" ".join(word.split()) for word in row))


def verify(target: str, overrides: list[str]) -> None:
    """Checks a dataset folder byte by byte, or a run's log against the order that its recipe implies."""
    if Path(target).is_dir() or "://" in target:
        if overrides:
            raise UsageError(overrides[0], "a dataset folder takes no overrides", "give a recipe, or the folder alone")
        _verify_dataset(target)
    else:
        _verify_log(recipes.load(target, overrides))


def _verify_dataset(folder: str) -> None:
    from pipeline.contract.verify import verify as verify_bytes
    from pipeline.progress import progress

    saved = join(folder, RECIPE)
    hint = f"make it again: clipmill curate {saved if exists(saved) else 'RECIPE'} curate.fresh=true"
    try:
        pairs = Manifest.load(folder).num_pairs
    except DataError as error:
        raise DataError(error.where, error.found, error.expected, hint) from error
    with progress(pairs, "verify", "pairs") as meter:
        found = verify_bytes(folder, progress=meter.advance)
    for problem in found.problems:
        print(problem)
    if found.problems:
        raise DataError(folder, f"{len(found.problems)} problems", "an undamaged dataset", hint)
    print(f"{folder}: {found.pairs} pairs in {found.shards} shards, all bytes as the manifest says")


def _verify_log(recipe: Recipe) -> None:
    from training.replay import verify as verify_log
    from training.settings import TrainSettings

    settings = recipe.section("train", TrainSettings)
    found = verify_log(settings, recipe.seed)
    if found.wrong:
        raise DataError(
            f"{settings.output}/metrics.jsonl",
            f"{len(found.wrong)} of {found.steps} steps used other pairs: {found.wrong[:5]}",
            "the digests that this recipe and data give",
            "was the run made with other data, seed or batch?",
        )
    print(f"{settings.output}: {found.steps} steps, each used exactly the pairs that this recipe implies")


def _is_first_rank() -> bool:
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def _leave(what: str, code: int) -> None:
    """Ends with the exit code of the launched processes, whose own words are printed already."""
    if code == 0:
        return
    if code == Stopped.exit_code:
        raise Stopped(what, "stopped on request", "", "run the same command again to continue")
    raise SystemExit(code)
