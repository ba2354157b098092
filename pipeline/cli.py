"""The `clipmill` command: reads a recipe and opens the half that does the work, only when it is asked for.

A curation node needs no deepspeed and a training node no ray, so both halves are imported inside command bodies.
Exit codes: 0 done, 2 bad usage or recipe, 75 stopped and resumable, 78 bad data found late, 1 anything else; those of
`clipmill node` are listed in pipeline/cluster/node/verdict.py.
"""

import gc
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline import jobs, log, recipe, reports
from pipeline.arguments import Overrides, RecipeName
from pipeline.cluster import commands
from pipeline.errors import ClipmillError
from pipeline.streams import unbreakable_output

app = typer.Typer(
    help="From a raw web crawl to a trained CLIP model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at the pairs a training step uses, and prove their order.", no_args_is_help=True)
app.add_typer(data_app, name="data")
commands.add_to(app)


@app.command()
def run(name: RecipeName, overrides: Overrides = None) -> None:
    """Curate, train and evaluate; run it again to continue what was interrupted."""
    jobs.run(recipe.load(name, overrides or []))


@app.command()
def curate(
    name: RecipeName,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="do all but ask a model: say how many requests, tokens and how much money")
    ] = False,
) -> None:
    """Turn the crawl into curated shards and a report."""
    (jobs.dry_run if dry_run else jobs.curate)(recipe.load(name, overrides or []))


@app.command()
def train(name: RecipeName, overrides: Overrides = None) -> None:
    """Train on curated shards; starts its processes itself, or joins those of torchrun or srun."""
    jobs.train(recipe.load(name, overrides or []))


@app.command()
def reinforce(name: RecipeName, overrides: Overrides = None) -> None:
    """Store what teachers say of curated pairs, and of augmented views of their pictures, beside the shards."""
    jobs.reinforce(recipe.load(name, overrides or []))


@app.command(name="eval")
def evaluate(name: RecipeName, overrides: Overrides = None) -> None:
    """Score a checkpoint on the recipe's evaluation sets."""
    jobs.evaluate(recipe.load(name, overrides or []))


@app.command()
def check(name: RecipeName, overrides: Overrides = None) -> None:
    """Validate a recipe and its inputs without doing any work."""
    jobs.check(recipe.load(name, overrides or []))


@app.command()
def plan(
    name: RecipeName,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(min=1, max=100_000)] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=1, max=1024)] = 8,
    device: Annotated[str, typer.Option(help="a100, a100-40, h100, h200, b200, l4, l40s, cpu")] = "h100",
    price: Annotated[
        float | None,
        typer.Option("--price-per-gpu-hour", min=0, help="in your money; then the plan says what it costs"),
    ] = None,
    pairs: Annotated[
        float | None, typer.Option(min=1, help="pairs of the crawl, where its inputs do not say: 1e9")
    ] = None,
    network_gbit: Annotated[float | None, typer.Option(min=0.001, help="Gbit/s out of a node")] = None,
    storage_gb_s: Annotated[float | None, typer.Option(min=0.001, help="GB/s that a node reads and writes")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="of a node")] = None,
    utilisation: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="share of the peak that matrix products reach")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines, every number as it was reckoned")] = False,
) -> None:
    """Say what a recipe is going to cost on a cluster: memory, traffic, time, storage, money. Does no work."""
    from pipeline.plan.devices import cluster_of
    from pipeline.plan.plan import as_json as plain
    from pipeline.plan.table import rendered

    cluster = cluster_of(
        device, nodes, gpus_per_node, network_gbit=network_gbit, storage_gb_s=storage_gb_s, cores=cores,
        used=utilisation, price=price,
    )  # fmt: skip
    found = jobs.plan(recipe.load(name, overrides or []), cluster, None if pairs is None else int(pairs))
    if as_json:
        print(json.dumps(plain(found), indent=1))
    else:
        console = Console()
        for part in rendered(found):
            console.print(part, markup=False, soft_wrap=isinstance(part, str), highlight=False)


@app.command()
def report(
    target: Annotated[str, typer.Argument(help="a recipe, or a folder (or URL) that a run has left")],
    overrides: Overrides = None,
    against: Annotated[str | None, typer.Option(help="another recipe or folder: write both side by side")] = None,
    out: Annotated[str | None, typer.Option(help="where to write it; by default to the outputs of the first")] = None,
) -> None:
    """Write report.html from what a run has left behind, or comparison.html of two runs."""
    print(reports.report_at(target, overrides or [], against, out))


@app.command()
def export(
    run_folder: Annotated[str, typer.Argument(help="a run's output folder, or one of its checkpoints")],
    out: Annotated[str, typer.Argument(help="FILE.pt for open_clip, or a folder for safetensors and their config")],
    average: Annotated[int, typer.Option(min=1, help="the mean of so many checkpoints, up to the newest")] = 1,
    ema: Annotated[float | None, typer.Option(min=0, max=1, help="weighed as a moving average of this decay")] = None,
    weights: Annotated[str | None, typer.Option(help="the name of an average that the run kept, such as ema")] = None,
) -> None:
    """Write the weights for other tools; refuses to leave a file whose logits differ from the checkpoint's."""
    jobs.export(run_folder, out, average, ema, weights)


@app.command()
def head(name: RecipeName, overrides: Overrides = None) -> None:
    """Train a head (aesthetic, NSFW, ...) from labels on the vectors of the recipe's pool, for the stage `head`."""
    jobs.head(recipe.load(name, overrides or []))


@app.command()
def metadata(name: RecipeName, overrides: Overrides = None) -> None:
    """Build a list of concepts from a corpus of texts, for concept_match: MetaCLIP's way, from your own sources."""
    jobs.metadata(recipe.load(name, overrides or []))


@app.command(name="index-list")
def index_list(
    source: Annotated[str, typer.Argument(metavar="LIST", help="text, JSON or parquet, .gz too, local or remote")],
    target: Annotated[str, typer.Argument(metavar="INDEX.keys", help="what a list of block_list then names as path")],
    of: Annotated[str, typer.Option(help="url, domain or sha256")] = "url",
    column: Annotated[str | None, typer.Option(help="of a parquet file, or of the objects in JSON")] = None,
    skip_malformed: Annotated[bool, typer.Option(help="leave out what is no entry; else it is an error")] = False,
) -> None:
    """Index a list of many millions for block_list, once: opened at once, in no memory of its own."""
    jobs.index_list(source, target, of, column, skip_malformed)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe: every section, kind, setting, default and range."""
    print(json.dumps(jobs.schema(), indent=1))


@app.command()
def recipes() -> None:
    """List the built-in recipes."""
    table = Table("name", "what it does", box=None, header_style="bold")
    for path in recipe.built_in():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        table.add_row(path.stem, first.lstrip("# "))
    Console().print(table)


@data_app.command()
def show(
    name: RecipeName,
    overrides: Overrides = None,
    step: Annotated[int, typer.Option(min=0, help="which step, counted from 0")] = 0,
) -> None:
    """List the pairs and captions of one training step."""
    jobs.show_step(recipe.load(name, overrides or []), step)


@data_app.command()
def verify(
    target: Annotated[
        str, typer.Argument(help="a dataset folder (checks every byte) or a recipe (replays the run's log)")
    ],
    overrides: Overrides = None,
) -> None:
    """Prove a dataset undamaged, or that each logged step used the pairs it should have."""
    jobs.verify(target, overrides or [])


def main() -> None:
    """Entry point: errors of ours become their exit code and two plain lines."""
    with unbreakable_output():
        log.configure()
        try:
            app(standalone_mode=True)
        except ClipmillError as error:
            print("\n".join([f"error: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
            sys.exit(error.exit_code)
        finally:
            gc.freeze()  # what ends with the process need not be searched for cycles: 0.3 s after a curation


if __name__ == "__main__":
    main()
