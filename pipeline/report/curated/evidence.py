"""What each stage shows of itself: tables, histograms with the cut, pictures on both sides of it, other captions."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report.curated.answers import Dropped, dropped
from pipeline.report.curated.gallery import Tile, tile
from pipeline.report.curated.thumbs import Album
from pipeline.report.drawing.binned import counted, edges_of
from pipeline.report.drawing.charts import Chart, histogram
from pipeline.report.figures import count_text, plain, words_of
from pipeline.report.limits import Limits
from pipeline.report.schemas import Changed, Evidence, ScoreBins, Section, ShownGroup, Summary, ToldCaption, Words

BESIDE = "held against"
"""The tag of what is no pair."""


@dataclass(frozen=True)
class Score:
    chart: Chart
    note: str


@dataclass(frozen=True)
class Group:
    title: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class ChangedRow:
    tile: Tile
    before: tuple[ToldCaption, ...]
    after: tuple[ToldCaption, ...]
    more: tuple[int, int]


@dataclass(frozen=True)
class Told:
    """A stage's tables, charts and pictures; `more`: rows, groups and tables that are not shown."""

    stage: str
    sections: tuple[Section, ...] = ()
    scores: tuple[Score, ...] = ()
    groups: tuple[Group, ...] = ()
    changed: tuple[ChangedRow, ...] = ()
    words: tuple[Words, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    more: int = 0


def told_by_stages(summary: Summary, album: Album, limits: Limits) -> tuple[list[Told], int]:
    """Of the stages that have something to show, in the order of the recipe; and how many are not shown."""
    evidence = {each.stage: each for each in summary.evidence}
    names = list(dict.fromkeys([stage.name for stage in summary.stages] + [*evidence]))
    names += [each.stage for each in summary.sections if each.stage not in names]
    found = []
    for name in dict.fromkeys(names):
        sections = [each for each in summary.sections if each.stage == name]
        if sections or name in evidence:
            found.append((name, sections, evidence.get(name, Evidence(stage=name))))
    shown = [_told(name, sections, each, album, limits) for name, sections, each in found[: limits.stages]]
    return shown, len(found) - len(shown)


def _told(name: str, sections: list[Section], evidence: Evidence, album: Album, limits: Limits) -> Told:
    scores = [score_of(each) for each in evidence.scores[: limits.sections]]
    changed = tuple(_changed(each, album, at) for at, each in enumerate(evidence.changed[: limits.changed]))
    tables = tuple(each.model_copy(update={"rows": each.rows[: limits.rows]}) for each in sections[: limits.sections])
    words = tuple(each.model_copy(update={"rows": each.rows[: limits.rows]}) for each in evidence.words)
    groups = tuple(_group(each, album, limits) for each in evidence.groups[: limits.groups])
    more = len(evidence.groups) - len(groups) + len(evidence.changed) - len(changed)
    more += sum(len(each.rows) for each in sections) - sum(len(each.rows) for each in tables)
    more += sum(len(each.rows) for each in evidence.words) - sum(len(each.rows) for each in words)
    charts = tuple(each for each in scores if each is not None)
    return Told(name, tables, charts, groups, changed, words, dropped(evidence, album, limits), more)


def _group(group: ShownGroup, album: Album, limits: Limits) -> Group:
    shown = group.examples[: limits.tiles]
    made = []
    for at, each in enumerate(shown):
        made.append(tile(each, album, at, "kept" if each.kept else words_of(plain(each.reason)) or "gone"))
        if each.beside is not None:
            made.append(tile(each.beside, album, at, BESIDE))
    return Group(plain(group.title, 160), tuple(made))


def _changed(row: Changed, album: Album, rank: int) -> ChangedRow:
    before, after = (tuple(each for each in some if not each.more) for some in (row.before, row.after))
    more = tuple(sum(each.more for each in some) for some in (row.before, row.after))
    return ChangedRow(tile(row, album, rank), before, after, (more[0], more[1]))


def score_of(scores: ScoreBins) -> Score | None:
    """The histogram, every count in it exact."""
    edges = edges_of([scores])
    if len(edges) < 2:
        return None
    before, after = counted(scores, edges)
    cuts: Sequence[float] = scores.cuts
    chart = histogram(words_of(plain(scores.column, 60)), edges.tolist(), before, after, cuts, x_label=scores.of)
    note = f"{count_text(scores.none)} {scores.of} have no number." if scores.none else ""
    return Score(chart, note) if chart else None
