"""What a curation would ask of models: the dry run, on the terminal and on the page."""

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from pipeline.report.curated.gallery import Tile, tile
from pipeline.report.curated.spent import money_text, spent_text
from pipeline.report.curated.thumbs import Album
from pipeline.report.data import dry_run_in
from pipeline.report.figures import count_text, plain
from pipeline.report.limits import Limits
from pipeline.report.schemas import AskedStage, DryRun, Example, PromptMessage

ESTIMATED = (
    "Tokens of prompts are estimated: a quarter of their bytes, and so many for each image. "
    "Those of answers are the most that is allowed."
)


@dataclass(frozen=True)
class ShownPrompt:
    tile: Tile | None
    messages: tuple[PromptMessage, ...]


@dataclass(frozen=True)
class Asked:
    stage: AskedStage
    prompts: tuple[ShownPrompt, ...]
    more: int


def asked_table(found: DryRun) -> Table:
    """A row for each stage, and what they come to."""
    table = Table(
        "stage", "model", "requests", "known", "tokens in", "tokens out", "money", box=None, header_style="bold"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for each in found.stages:
        most = "about " if each.about else ""
        out = "unbounded" if each.tokens_out is None else f"≤ {count_text(each.tokens_out)}"
        numbers = (f"{most}{count_text(each.requests)}", count_text(each.known), f"{most}{count_text(each.tokens_in)}")
        words = (Text(plain(each.stage, 40)), Text(plain(each.model, 40)))
        table.add_row(*words, *numbers, out if each.requests else "0", money_text(each.money))
    return table


def spent_lines(found: DryRun) -> list[str]:
    """Of each stage with which something was spent before, a line."""
    return [
        f"{plain(each.stage, 40)}, spent so far: {spent_text(each.spent)}"
        for each in found.stages
        if each.spent.attempts
    ]


def told(folder: str, digests: list[str], command: str) -> list[Table | str]:
    """For the terminal: what the last dry run in a folder has found, where it was of stages with these digests; else
    the command that finds it."""
    found = dry_run_in(folder)
    if found is None or [each.digest for each in found.stages] != digests:
        return [f"It asks models. How many requests, how many tokens and how much money: {command}"]
    return [asked_table(found), ESTIMATED, *spent_lines(found)]


def prompts_of(found: DryRun, album: Album, limits: Limits) -> list[Asked]:
    """For the page: every stage with some of its prompts."""
    shown = []
    for each in found.stages[: limits.stages]:
        some = each.prompts[: limits.changed]
        made = []
        for at, prompt in enumerate(some):
            picture = tile(Example(uid=str(at), thumb=prompt.thumb), album, at) if prompt.thumb else None
            made.append(ShownPrompt(picture, tuple(prompt.messages[: limits.rows])))
        shown.append(Asked(each, tuple(made), len(each.prompts) - len(some)))
    return shown
