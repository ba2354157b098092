"""Two runs side by side, as what the page shows: funnels, reasons, scores, words, concepts, pairs, curves, results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from pipeline.report.compared.pairs import NOT_THERE, UNKNOWN, Only
from pipeline.report.curated.funnel import Funnel, Step
from pipeline.report.curated.gallery import Tile, tiles
from pipeline.report.curated.thumbs import Album
from pipeline.report.data import Evaluated, Trained
from pipeline.report.drawing.binned import counted, edges_of
from pipeline.report.drawing.charts import Chart, Line, line_chart
from pipeline.report.drawing.overlaid import Series, outlines
from pipeline.report.figures import metric_name, plain, words_of
from pipeline.report.limits import Limits
from pipeline.report.schemas import Concepts, Summary

CURVES = (
    ("Loss", "loss", True), ("Image-to-text accuracy in the batch", "acc_i2t", True),
    ("Text-to-image accuracy in the batch", "acc_t2i", True), ("Logit scale", "logit_scale", False),
    ("Learning rate", "lr", False), ("Gradient norm", "grad_norm", True), ("Pairs per second", "samples_per_s", True),
)  # fmt: skip


Counts = Mapping[str, dict[str, int]]


@dataclass(frozen=True)
class Row:
    """A number in both; None where one has no such thing."""

    label: str
    a: float | None
    b: float | None

    @property
    def change(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True)
class Rows:
    title: str
    head: str
    rows: tuple[Row, ...]
    more: int


@dataclass(frozen=True)
class StageRow:
    title: str
    a: Step | None
    b: Step | None


@dataclass(frozen=True)
class Fate:
    label: str
    count: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class OnlyIn:
    number: int
    fates: tuple[Fate, ...]
    more: int


def stages_of(a: Funnel, b: Funnel) -> list[StageRow]:
    """Stages of both in order; one that only one has stands for itself."""
    mine_named, theirs_named = ([step.title for step in funnel.steps] for funnel in (a, b))
    found: list[StageRow] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, mine_named, theirs_named, autojunk=False).get_opcodes():
        mine, theirs = a.steps[i1:i2], b.steps[j1:j2]
        if tag == "equal":
            found += [StageRow(x.title, x, y) for x, y in zip(mine, theirs, strict=True)]
        else:
            found += [StageRow(step.title, step, None) for step in mine]
            found += [StageRow(step.title, None, step) for step in theirs]
    return found


def reasons_of(a: Funnel, b: Funnel, limits: Limits) -> Rows:
    """Pairs that each reason took, those first whose numbers differ most."""
    mine, theirs = ({(drop.stage, drop.label): drop.count for drop in each.by_reason()} for each in (a, b))
    counts = [
        Row(f"{stage}: {label}", mine.get((stage, label)), theirs.get((stage, label)))
        for stage, label in dict.fromkeys([*mine, *theirs])
    ]
    counts.sort(key=lambda row: -abs((row.b or 0) - (row.a or 0)))
    return _rows("Pairs dropped, by reason", "stage and reason", counts, limits.rows * 2)


def words_of_both(title: str, head: str, a: Mapping[str, int], b: Mapping[str, int], limits: Limits) -> Rows | None:
    rows = [Row(plain(word, 80) or "not given", a.get(word), b.get(word)) for word in {**a, **b}]
    rows.sort(key=lambda row: (-max(row.a or 0, row.b or 0), row.label))
    return _rows(title, head, rows, limits.bars * 2) if rows else None


def _rows(title: str, head: str, rows: Sequence[Row], most: int) -> Rows:
    return Rows(title, head, tuple(rows[:most]), max(0, len(rows) - most))


def word_tables(a: Summary, b: Summary, limits: Limits) -> list[Rows]:
    mine, theirs = (
        {each.column: {word: kept for word, _, kept in each.rows} for told in side.evidence for each in told.words}
        for side in (a, b)
    )
    tables = [
        words_of_both("Languages that pages say, of the kept pairs", "language", a.languages, b.languages, limits),
        words_of_both("Where first captions stood", "source", a.caption_sources, b.caption_sources, limits),
        *(
            words_of_both(f"{words_of(column.rpartition('.')[2])}, of what was kept", "value", one, two, limits)
            for column, one, two in _both(mine, theirs)
        ),
    ]
    return [table for table in tables if table]


def _both(a: Counts, b: Counts) -> list[tuple[str, dict[str, int], dict[str, int]]]:
    return [(name, a.get(name, {}), b.get(name, {})) for name in dict.fromkeys([*a, *b])]


def score_charts(a: Summary, b: Summary, limits: Limits) -> list[Chart]:
    """Of each stage and column: what came in and what was kept in both, over common edges; then sizes and lengths."""
    mine, theirs = (
        {(told.stage, each.column, each.of): each for told in side.evidence for each in told.scores} for side in (a, b)
    )
    charts = []
    for key in list(dict.fromkeys([*mine, *theirs]))[: limits.stages]:
        there = [(name, side[key]) for name, side in (("A", mine), ("B", theirs)) if key in side]
        edges = edges_of([each for _, each in there])
        if len(edges) < 2:
            continue
        series: list[Series] = []
        for name, each in there:
            before, after = counted(each, edges)
            series += [(f"{name} came in", f"{name.lower()}-in", before), (f"{name} kept", name.lower(), after)]
        cuts = [cut for _, each in there for cut in each.cuts]
        title = f"{words_of(plain(key[0], 60))}: {plain(key[1], 60)}"
        charts.append(outlines(title, edges.tolist(), series, cuts, x_label=key[2]))
    for name in a.histograms:
        one, two = a.histograms[name], b.histograms.get(name)
        if two is not None and one.edges == two.edges and len(one.edges) == len(one.after) + 1 == len(two.after) + 1:
            kept: list[Series] = [("A kept", "a", one.after), ("B kept", "b", two.after)]
            charts.append(outlines(words_of(name).capitalize(), one.edges, kept))
    return [chart for chart in charts if chart is not None]


def concept_chart(a: Concepts | None, b: Concepts | None) -> Chart | None:
    lines = []
    for name, each in (("A", a), ("B", b)):
        if each is not None:
            lines.append(Line(f"{name} before", each.curve.rank, each.curve.before, f"{name.lower()}-in"))
            lines.append(Line(f"{name} after", each.curve.rank, each.curve.after, name.lower()))
    title, x_label = "Texts per concept, by rank", "concepts by rank"
    return line_chart(title, lines, x_label=x_label, y_label="texts", log_x=True, log_y=True, height=330, ends=False)


def concept_rows(a: Concepts | None, b: Concepts | None, limits: Limits) -> list[Rows]:
    """The balance in figures, and the texts of the most frequent concepts after it."""
    names = (
        ("t", "t"), ("concepts that occur", "num_matched_entries"),
        ("share of the tail before", "tail_share_before"), ("share of the tail after", "tail_share_after"),
    )  # fmt: skip
    told = [Row(label, getattr(a, name, None), getattr(b, name, None)) for label, name in names]
    heads = [{item.entry: item.after for item in each.head} if each else {} for each in (a, b)]
    both = words_of_both("Texts of frequent concepts after balancing", "concept", heads[0], heads[1], limits)
    return [_rows("Balance", "", told, limits.rows), *([both] if both else [])]


def only_in(only: Only, album: Album, limits: Limits) -> OnlyIn:
    """What the other run did with the pairs that only this one has."""
    ordered = sorted(only.fates.items(), key=lambda item: (-item[1], item[0]))
    fates = [
        Fate(_fate(label), n, tiles(only.shown.get(label, []), album, limits.tiles))
        for label, n in ordered[: limits.rows]
    ]
    return OnlyIn(only.number, tuple(fates), len(ordered) - len(fates))


def _fate(label: str) -> str:
    stage, _, reason = label.partition(".")
    return label if label in (NOT_THERE, UNKNOWN) or not reason else f"{words_of(stage)}: {words_of(reason)}"


def curve_charts(a: Trained | None, b: Trained | None) -> list[Chart]:
    """One picture for each field that either of them logged, and for each metric scored on the way."""
    there = [(name, run) for name, run in (("A", a), ("B", b)) if run is not None]
    charts = []
    for title, name, noisy in CURVES:
        lines = [Line(run, t.steps.steps, t.steps.values[name], run.lower(), noisy=noisy) for run, t in there]
        charts.append(line_chart(title, lines))
    metrics = sorted({key for _, trained in there for _, numbers in trained.evals for key in numbers})
    for key in metrics[:24]:
        lines = []
        for run, trained in there:
            points = [(step, numbers[key]) for step, numbers in trained.evals if key in numbers]
            steps, values = zip(*points, strict=True) if points else ((), ())
            lines.append(Line(run, steps, values, run.lower(), dots=True))
        charts.append(line_chart(_metric(key), lines, zero=True))
    return [chart for chart in charts if chart is not None]


def result_rows(a: Evaluated | None, b: Evaluated | None, limits: Limits) -> Rows | None:
    mine, theirs = (each.results.results if each else {} for each in (a, b))
    rows = [Row(_metric(key), mine.get(key), theirs.get(key)) for key in sorted({**mine, **theirs})]
    return _rows("Results by set", "set and metric", rows, limits.rows * 2) if rows else None


def _metric(key: str) -> str:
    name, _, metric = key.rpartition("/")
    return f"{plain(name, 60)}: {plain(metric_name(metric), 60)}" if name else plain(metric_name(metric), 60)


def input_rows(a: Summary, b: Summary, limits: Limits) -> Rows:
    """Inputs that only one of them has, by content, and what is common."""
    mine, theirs = ({part.part: part.bytes for part in side.inputs} for side in (a, b))
    names = {part.part: part.path for side in (b, a) for part in side.inputs}
    rows = [
        Row("in both", sum(n for p, n in mine.items() if p in theirs), sum(n for p, n in theirs.items() if p in mine))
    ]
    differ = [part for part in {**mine, **theirs} if (part in mine) != (part in theirs)]
    rows += [Row(f"{plain(names[part], 120)} ({part[:16]})", mine.get(part), theirs.get(part)) for part in differ]
    return _rows("Inputs, in bytes", "part, by content", rows, limits.inputs)
