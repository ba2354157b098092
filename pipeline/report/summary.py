"""The table that `clipmill run` prints at its end: the report's first lines, for a terminal."""

from rich.table import Table
from rich.text import Text

from pipeline.report.curated.funnel import build_funnel
from pipeline.report.data import Curated, Evaluated, Trained, load_run
from pipeline.report.figures import bytes_text, count_text, number_text, plain, share_text
from pipeline.report.trained.training import eval_groups

_MAX_REASONS, _MAX_RESULTS = 12, 12


def summary_table(
    *,
    curate_output: str | None,
    train_output: str | None,
    eval_output: str | None,
    name: str,
    report: str | None = None,
) -> Table:
    """Pairs in, kept and dropped by reason; first and last loss; results before and after; `report`: the page's path.

    Raises DataError if nothing has run, or if an output cannot be read.
    """
    run = load_run(curate_output=curate_output, train_output=train_output, eval_output=eval_output, name=name)
    table = Table(
        title=Text(plain(name), style="bold"), title_justify="left", box=None, show_header=False, pad_edge=False
    )
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    if run.curated:
        _add_curation(table, run.curated)
    if run.trained:
        _add_training(table, run.trained)
    if run.evaluated:
        _add_results(table, run.evaluated)
    if report:
        table.add_row("report", "", Text(report))
    return table


def _add_curation(table: Table, curated: Curated) -> None:
    funnel = build_funnel(curated)
    whole, reasons = funnel.pairs_in, funnel.by_reason()
    table.add_row("pairs in", count_text(whole), "")
    for drop in reasons[:_MAX_REASONS]:
        words = Text(f"{share_text(drop.count, whole):>6}  {plain(drop.stage, 40)}: {plain(drop.label, 60)}")
        table.add_row("dropped", f"[red]−{count_text(drop.count)}[/red]", words)
    if rest := reasons[_MAX_REASONS:]:
        others = count_text(sum(drop.count for drop in rest))
        table.add_row("dropped", f"[red]−{others}[/red]", f"{len(rest)} other reasons")
    where = f"{share_text(funnel.pairs_kept, whole):>6}"
    if curated.manifest:
        shards = curated.manifest.shards
        where += f"  in {count_text(len(shards))} shards, {bytes_text(sum(shard.bytes for shard in shards))}"
    table.add_row("pairs kept", f"[bold green]{count_text(funnel.pairs_kept)}[/bold green]", where)
    for problem in funnel.problems:
        table.add_row("[bold red]MISCOUNT[/bold red]", "", Text(problem, style="bold red"))


def _add_training(table: Table, trained: Trained) -> None:
    steps = trained.steps
    if "loss" in steps.first:
        loss = f"{number_text(steps.first['loss'])} → [bold]{number_text(steps.last['loss'])}[/bold]"
        table.add_row("loss", loss, f"over {count_text(len(steps))} steps")


def _add_results(table: Table, evaluated: Evaluated) -> None:
    rows = [(group.name, row) for group in eval_groups(evaluated) for row in group.rows]
    for set_name, row in rows[:_MAX_RESULTS]:
        before = f"{number_text(row.before)} → " if row.before is not None else ""
        chance = f"  (chance {number_text(row.chance)})" if row.chance is not None else ""
        words = Text(f"{plain(set_name, 60)}, {plain(row.label, 40)}{chance}")
        table.add_row("eval", f"{before}[bold]{number_text(row.after)}[/bold]", words)
