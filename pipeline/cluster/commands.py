"""The commands of a run directory: submit, status, logs, stop, cancel, save, doctor, node, reconcile."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline import jobs, storage
from pipeline import recipe as recipes
from pipeline.arguments import Overrides, RecipeName
from pipeline.cluster import asking, showing
from pipeline.cluster.logs import print_logs
from pipeline.cluster.node.wrapper import run_node
from pipeline.cluster.rundir import STAGES, RunDir, attempts, control, create, frozen, open_run
from pipeline.cluster.schedulers import SCHEDULERS, Request
from pipeline.errors import RecipeError, UsageError
from pipeline.log import get_logger
from pipeline.recipe import Recipe

log = get_logger("cluster")
Run = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="the directory of a run, as `submit` made it")]
On = Annotated[str, typer.Option(help=f"one of {', '.join(SCHEDULERS)}")]
Where = Annotated[Path | None, typer.Option(help="default: runs/<the recipe's name>; the same one again resumes")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN_DIR ...", help="any number")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON value instead of a table")]


def add_to(app: typer.Typer) -> None:
    for command in (submit, status, logs, stop, save, cancel, node, doctor, reconcile):
        app.command()(command)


def submit(
    name: RecipeName,
    overrides: Overrides = None,
    on: On = "local",
    run_dir: Where = None,
    nodes: Annotated[int, typer.Option(min=1, help="of the training and evaluation jobs")] = 1,
    gpus_per_node: Annotated[int | None, typer.Option(min=0, help="what is asked for; default: whole nodes")] = None,
    option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the scheduler, any number")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="write the files that it would hand over")] = False,
    new_recipe: Annotated[bool, typer.Option("--new-recipe", help="go on in this run by another recipe")] = False,
    uncancel: Annotated[bool, typer.Option("--uncancel", help="go on with a run that was cancelled")] = False,
    device: Annotated[str | None, typer.Option(help="of the nodes, for the plan that is shown: see `plan`")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="ask nothing")] = False,
) -> None:
    """Run curate, reinforce, train and eval, as far as the recipe has them, on a scheduler; again: resume.

    On a cluster the plan of its cost is shown first, and at a terminal it is asked whether to go on."""
    recipe = recipes.load(name, overrides or [])
    if on not in SCHEDULERS:
        raise UsageError("--on", f"found {on!r}", f"one of {', '.join(SCHEDULERS)}", "--on local")
    request = Request(_stages(recipe), nodes, gpus_per_node, _options(option or []))
    path = (run_dir or Path("runs") / recipe.name).absolute()
    jobs.check(frozen(recipe, path), quiet=True)
    if on != "local" and not dry_run:
        asking.agreed(frozen(recipe, path), request, device, yes)
    _submit(create(path, recipe, new_recipe, uncancel), on, request, dry_run)


def _stages(recipe: Recipe) -> tuple[str, ...]:
    found = tuple(stage for stage in STAGES if recipe.has(stage))
    if not found:
        raise RecipeError(recipe.source, f"has none of the sections {', '.join(STAGES)}", "a recipe needs one")
    return found


def _options(words: list[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise UsageError("--option", f"found {word!r}", "KEY=VALUE", "--option partition=gpu")
    return dict(word.split("=", 1) for word in words)


def _submit(run: RunDir, on: str, request: Request, dry_run: bool) -> None:
    scheduler = SCHEDULERS[on]
    for name, text in scheduler.render(run, request).items():
        storage.publish_bytes(str(run.jobs(on) / name), text.encode())
        if dry_run:
            print(run.jobs(on) / name)
    if dry_run:
        return
    handed = [job.id for job in scheduler.submit(run, request)]
    attempts.note(run, "submitted", on=on, stages=list(request.stages), jobs=handed)
    print(f"{run.path}: {', '.join(handed)}\nclipmill status {run.path}\nclipmill logs -f {run.path}")


def _print_table(heads: Sequence[str], rows: list[tuple[str, ...]]) -> None:
    """Columns on a terminal, tab-separated lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        for row in (heads, *rows):
            print("\t".join(" ".join(word.split()) for word in row))
        return
    table = Table(*heads, box=None, header_style="bold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def status(runs: Runs, as_json: AsJson = False) -> None:
    """Where runs stand: state, attempt, step, speed, time left, last checkpoint, and why one waits."""
    found = [showing.status_of(open_run(path)) for path in runs]
    if as_json:
        print(json.dumps([each.as_dict() for each in found], indent=1))
    else:
        _print_table(showing.HEADS, showing.rows_of(found))


def logs(
    run_dir: Run,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="wait for more, over attempts, until the end")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="one attempt; default: all of them")] = None,
    node: Annotated[int, typer.Option(min=0, help="of which node")] = 0,
) -> None:
    """What the stages said, attempt by attempt, and behind it what only the scheduler has: words of pods."""
    print_logs(open_run(run_dir), node, attempt, follow)


def stop(run_dir: Run) -> None:
    """Save, stop, and stay so until the run is submitted again."""
    run = open_run(run_dir)
    control.ask(run, "stop")
    print(f"{run.path}: asked to save and stop; to go on: submit it again")


def save(run_dir: Run) -> None:
    """Save a checkpoint now and go on."""
    run = open_run(run_dir)
    control.ask(run, "save")
    print(f"{run.path}: asked to save")


def cancel(run_dir: Run) -> None:
    """Stop for good: what runs saves and ends, and nothing starts it again."""
    run = open_run(run_dir)
    control.ask(run, "cancel")
    for on, ids in showing.submitted(run):
        SCHEDULERS[on].cancel(run, ids)
    print(f"{run.path}: cancelled")


def node(run_dir: Run, stage: Annotated[str, typer.Argument(metavar="STAGE", help=", ".join(STAGES))]) -> None:
    """One stage on this node: what schedulers start, once on each node. Ends with 0, 75, 78, 71 or 1."""
    sys.exit(run_node(run_dir, stage))


def reconcile(
    run_dir: Run,
    recipe: Annotated[Path | None, typer.Option(help="to make the run directory of, where it is not there")] = None,
) -> None:
    """Lead a run inside a Kubernetes cluster, stage by stage: what the pipeline Job of k8s/ runs."""
    from pipeline.cluster.k8s.reconcile import reconcile as lead

    lead(run_dir, recipe)


def doctor(
    run_dir: Annotated[Path | None, typer.Argument(metavar="[RUN_DIR]", help="shared storage to look at, too")] = None,
    as_json: AsJson = False,
) -> None:
    """What is wrong with this machine for a run, and what to type."""
    from pipeline.cluster import doctor as looking

    found = looking.examine(run_dir)
    if as_json:
        print(json.dumps([vars(each) for each in found], indent=1))
    else:
        _print_table(looking.HEADS, looking.rows_of(found))
    if any(each.is_wrong for each in found):
        sys.exit(1)
