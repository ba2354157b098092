"""What each command does: opens a section of the recipe with its owner's settings and calls the owner's door.

Imports of curation and training stand inside functions: each command loads only the half that it needs.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline import outputs, storage
from pipeline import recipe as recipes
from pipeline.contract.manifest import Manifest
from pipeline.errors import DataError, RecipeError, Stopped, UsageError
from pipeline.log import get_logger
from pipeline.recipe import Recipe
from pipeline.reports import outputs_of, report

if TYPE_CHECKING:
    from curation.settings import CurateSettings
    from pipeline.plan.devices import Cluster
    from pipeline.plan.found import Plan

log = get_logger("jobs")


def curate(recipe: Recipe) -> Manifest:
    """Curated shards in `curate.output`, and their report."""
    from curation.runner.driver import curate as curate_all
    from curation.settings import CurateSettings
    from curation.table.arrow import without_pandas

    without_pandas()
    settings = recipe.section("curate", CurateSettings)
    manifest = curate_all(settings, name=recipe.name, seed=recipe.seed, is_ours=True, meanwhile=_ready_to_report)
    storage.remove(storage.join(settings.output, outputs.DRY_RUN))  # what was asked is told by now
    storage.publish_bytes(storage.join(settings.output, outputs.RECIPE), _without_fresh(recipe).as_yaml().encode())
    report(recipe)
    return manifest


def _ready_to_report() -> None:
    with suppress(Exception):  # who writes the report says what is wrong
        from pipeline.report.render import ready

        ready()


def dry_run(recipe: Recipe) -> None:
    """All that `curate` does before its first request to a model; what it would ask, on the terminal, in the output and
    in its report."""
    from curation.runner.ending.dry_run import dry_run as foretell
    from curation.settings import CurateSettings

    settings = recipe.section("curate", CurateSettings)
    asks = bool(_generating(settings))
    stages = foretell(settings, name=recipe.name, seed=recipe.seed) if asks else []
    if not stages:
        print(f"{recipe.name}: {'finished before, nothing to ask' if asks else 'no stage asks a model'}")
        return
    storage.publish_json(storage.join(settings.output, outputs.DRY_RUN), {"stages": stages})
    _tell_what_is_asked(recipe, settings)
    print(f"prompts: {report(recipe)}, {storage.join(settings.output, outputs.DRY_RUN)}")


def _generating(settings: "CurateSettings") -> list[str]:
    """Digests of the stages that ask models."""
    from curation.stage import Generate

    return [stage.digest() for stage in settings.stages if isinstance(stage, Generate)]


def _tell_what_is_asked(recipe: Recipe, settings: "CurateSettings") -> None:
    """Of a recipe that asks models: what the last dry run has found, where it was of the same stages."""
    from pipeline.report.asked import told

    if digests := _generating(settings):
        command = f"clipmill curate {recipe.source} --dry-run"
        Console().print(*told(settings.output, digests, command), sep="\n", soft_wrap=True)


def _without_fresh(recipe: Recipe) -> Recipe:
    """As it is saved: whoever runs it once more does not ask for everything once more."""
    curation = {name: value for name, value in recipe.data["curate"].items() if name != "fresh"}
    return Recipe(recipe.source, {**recipe.data, "curate": curation})


def train(recipe: Recipe) -> None:
    """A trained run in `train.output`; raises by exit code if a rank failed."""
    _launched("train", recipe)


def evaluate(recipe: Recipe) -> None:
    """`eval.json` in `eval.output`."""
    _launched("eval", recipe)


def reinforce(recipe: Recipe) -> None:
    """What teachers say of the datasets in `reinforce.data`, in side-cars beside their shards."""
    from training.launch.launcher import start
    from training.reinforce.settings import ReinforceSettings

    recipe.section("reinforce", ReinforceSettings)
    _leave("reinforce", start("reinforce", recipe))


def _launched(command: Literal["train", "eval"], recipe: Recipe) -> None:
    """Every section is good before a rank is started; the first rank writes the report."""
    from training.launch.launcher import start

    check(recipe, sections=("train", "eval") if command == "train" else ("eval", "train"), quiet=True)
    _leave(command, start(command, recipe))
    if _is_first_rank():
        report(recipe)


def run(recipe: Recipe) -> None:
    """Every section that the recipe has, in order, then the summary on the terminal. Done before: only the summary."""
    if _is_done(recipe):
        print(f"{recipe.name}: finished before, nothing to do")
    else:
        log.info("checking %s", recipe.source)
        check(recipe, quiet=True)
        manifest = curate(recipe) if recipe.has("curate") else None
        if recipe.has("reinforce"):
            reinforce(recipe)
        if recipe.has("train"):
            train(recipe)
        if recipe.has("eval"):
            evaluate(recipe)
        finished = {"recipe": recipes.digest(recipe), "manifest": manifest and manifest.digest()}
        storage.publish_json(_marker(recipe), finished)
    from pipeline.report.summary import summary_table

    Console().print(summary_table(**outputs_of(recipe), name=recipe.name, report=report(recipe)))


def _marker(recipe: Recipe) -> str:
    """A file in the output of the last section, which says that a run of this recipe went through."""
    return storage.join([folder for folder in outputs_of(recipe).values() if folder][-1], outputs.FINISHED)


def _is_done(recipe: Recipe) -> bool:
    """Found without torch or Ray, so that a finished run says so at once."""
    folders = [folder for folder in outputs_of(recipe).values() if folder]
    if not folders or not storage.exists(_marker(recipe)):
        return False
    finished = storage.json_object(storage.read_bytes(_marker(recipe))) or {}  # damaged: every section looks for itself
    if finished.get("recipe") != recipes.digest(recipe) or not all(storage.exists(folder) for folder in folders):
        return False
    if not recipe.has("curate"):
        return True
    from curation.runner.driver import finished as finished_before
    from curation.settings import CurateSettings

    manifest = finished_before(recipe.section("curate", CurateSettings), seed=recipe.seed)
    return manifest is not None and manifest.digest() == finished.get("manifest")


HALVES = ("curate", "train", "eval")
_UNSEEN = {
    "curate": "the content of the inputs",
    "train": "the data, which may still have to be curated, and pretrained weights",
    "eval": "the content of the sets",
}


def check(recipe: Recipe, sections: Sequence[str] = HALVES, quiet: bool = False) -> None:
    """The sections validated, inputs found, columns available; raises before any work would start."""
    if not any(recipe.has(section) for section in HALVES):
        raise RecipeError(recipe.source, "has none of the sections curate, train, eval", "a recipe needs one")
    known = [section for section in sections if recipe.has(section)]
    from training.launch.settings import LaunchSettings

    launch = recipe.optional("launch", LaunchSettings)
    if "curate" in known:
        from curation.runner.driver import check as check_curation
        from curation.settings import CurateSettings

        curation = recipe.section("curate", CurateSettings)
        check_curation(curation)
    if recipe.has("reinforce"):
        from training.reinforce.settings import ReinforceSettings

        recipe.section("reinforce", ReinforceSettings)
    if "train" in known:
        from training.settings import TrainSettings, check_training

        check_training(recipe.section("train", TrainSettings), launch.processes, trains=sections[0] != "eval")
    if "eval" in known:
        from training.settings import EvalSettings, check_evaluation

        check_evaluation(recipe.section("eval", EvalSettings), outputs_of(recipe)["train_output"])
    if not quiet:
        unseen = "; ".join(_UNSEEN[section] for section in known)
        print(f"{recipe.source}: ok ({', '.join(known)}). Not looked at: {unseen}.")
        if "curate" in known:
            _tell_what_is_asked(recipe, curation)


def plan(recipe: Recipe, cluster: "Cluster", pairs: int | None = None) -> "Plan":
    """What its curation and training are going to cost on a cluster; `pairs` of the crawl, where its inputs do not say.

    Nothing is read but manifests and footers. RecipeError: inputs that are not there, towers that cannot be built here.
    """
    from pipeline.plan.plan import composed

    curation, training = None, None
    if recipe.has("curate"):
        from curation.runner.costs.foretold import foretell as of_curation
        from curation.settings import CurateSettings

        curation = of_curation(recipe.section("curate", CurateSettings), cluster, pairs)
    if recipe.has("train"):
        from training.costs.plan import foretell as of_training
        from training.settings import TrainSettings

        training = of_training(recipe.section("train", TrainSettings), cluster)
    return composed(recipe.name, cluster, curation, training)


def export(run_folder: str, out: str, average: int = 1, ema: float | None = None, weights: str | None = None) -> None:
    from training.export import export as export_weights

    print(export_weights(run_folder, out, average=average, ema=ema, weights=weights))


def head(recipe: Recipe) -> None:
    """A head in `head.output`, trained on vectors of the recipe's pool; a line that says how well it does."""
    from curation.head import HeadSettings, train_head
    from curation.settings import CurateSettings

    settings = recipe.section("head", HeadSettings)
    made = train_head(settings, recipe.section("curate", CurateSettings), recipe.seed)
    figures = ", ".join(f"{name} {value:.3f}" for name, value in made.figures.items()) or "not known"
    left = f"{made.unmatched} named nothing that has a vector, {made.bad} had no name or number"
    print(f"{made.path}: {made.used} labels ({left}), l2 {made.l2:g}; on labels held out: {figures}")


def metadata(recipe: Recipe) -> None:
    """The list in `metadata.output`; a line that says where its entries are from."""
    from curation.metadata import MetadataSettings, build_metadata

    made = build_metadata(recipe.section("metadata", MetadataSettings))
    parts = ", ".join(f"{name} {number:,}" for name, number in made.sources.items())
    left = f"; left out {made.left_out} lines or fields that are no text" if made.left_out else ""
    print(f"{made.path}: {made.entries:,} entries ({parts}) of {made.texts:,} texts{left}")


def index_list(source: str, target: str, of: str, column: str | None, skip: bool) -> None:
    from typing import get_args

    from curation.methods.lists.forms import Of
    from curation.methods.lists.index import index_list as index

    if of not in get_args(Of):
        raise UsageError("--of", f"{of!r} is no kind of entry", "expected url, domain or sha256")
    made = index(source, target, of, column, skip)  # type: ignore[arg-type]
    left = f"; left out {made.skipped} that are no {of}, the first in line {made.first}" if made.skipped else ""
    print(f"{target}: {made.entries} entries of {made.read} lines{left}")


def schema() -> dict[str, Any]:
    """JSON Schema of a whole recipe."""
    from pydantic import Field, create_model

    from curation.head import HeadSettings
    from curation.metadata import MetadataSettings
    from curation.settings import CurateSettings
    from pipeline.settings import Settings
    from training.launch.settings import LaunchSettings
    from training.reinforce.settings import ReinforceSettings
    from training.settings import EvalSettings, TrainSettings

    sections = {"curate": CurateSettings, "head": HeadSettings, "metadata": MetadataSettings,
                "reinforce": ReinforceSettings, "train": TrainSettings, "eval": EvalSettings}  # fmt: skip
    model = create_model(
        "Recipe",
        __base__=Settings,
        base=(
            str | None,
            Field(None, description="a recipe that this one lies on: a built-in one, or a path from here"),
        ),
        name=(str, Field("recipe", description="names the run; the file's name by default")),
        seed=(int, Field(0, description="keys every random draw")),
        launch=(LaunchSettings, LaunchSettings()),
        **{name: (kind | None, None) for name, kind in sections.items()},  # type: ignore[call-overload]
    )
    return model.model_json_schema()


def show_step(recipe: Recipe, step: int) -> None:
    """One line a pair: a table on a terminal, tab-separated elsewhere."""
    from training.replay import show
    from training.settings import TrainSettings

    heads = ("lane", "epoch", "uid", "shard", "key", "caption")
    shown = show(recipe.section("train", TrainSettings), recipe.seed, step)
    rows = [(str(row.lane), str(row.epoch), row.uid, row.shard, row.key, row.caption) for row in shown]
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
    from pipeline.contract.proof import prove

    if Path(target).is_dir() or "://" in target:
        if overrides:
            raise UsageError(overrides[0], "a dataset folder takes no overrides", "give a recipe, or the folder alone")
        prove(target)
    else:
        _verify_log(recipes.load(target, overrides))


def _verify_log(recipe: Recipe) -> None:
    from training.replay import verify as verify_log
    from training.settings import TrainSettings

    settings = recipe.section("train", TrainSettings)
    found = verify_log(settings, recipe.seed)
    if found.wrong:
        words = f"{len(found.wrong)} of {found.steps} steps used other pairs: {found.wrong[:5]}"
        hint, log_file = (
            "was the run made with other data, seed or batch?",
            storage.join(settings.output, outputs.METRICS),
        )
        raise DataError(log_file, words, "the digests that this recipe and data give", hint)
    print(f"{settings.output}: {found.steps} steps, each used exactly the pairs that this recipe implies")


def _is_first_rank() -> bool:
    from training.launch.nodes import is_first

    return is_first() and int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def _leave(what: str, code: int) -> None:
    """Ends with the exit code of the launched processes, whose own words are printed already."""
    if code == 0:
        return
    if code == Stopped.exit_code:
        raise Stopped(what, "stopped on request", "", "run the same command again to continue")
    raise SystemExit(code)
