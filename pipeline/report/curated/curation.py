"""What the curation sections show besides the funnel and the pictures: concepts, histograms, words, inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.drawing.charts import Chart, Line, histogram, line_chart
from pipeline.report.figures import place, words_of
from pipeline.report.schemas import CaptionCount, Concepts, EntryCount, InputPart, Summary

_LABELS = {"images_bad": "not images"}  # addresses whose body holds no picture: pages, mostly
_FIRST = ("width", "height", "aspect", "caption_words")  # pictures in the order to read them
MAX_CAPTIONS = 20
_MAX_COLUMNS = 24


@dataclass(frozen=True)
class Bar:
    label: str
    value: int
    width: float  # percent of the widest
    gone: bool = False


@dataclass(frozen=True)
class EntryBar:
    entry: EntryCount
    before_width: float
    after_width: float


@dataclass(frozen=True)
class InputRow:
    part: str
    path: str
    bytes: int
    counts: tuple[tuple[str, int], ...]
    bad: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Inputs:
    rows: tuple[InputRow, ...]
    more: int  # parts that are not listed
    total: InputRow
    columns: tuple[str, ...]


def rank_curve(concepts: Concepts) -> Chart | None:
    """Texts per concept against the concept's rank, both logarithmic: balancing bends the head down to t."""
    lines = [
        Line("before", concepts.curve.rank, concepts.curve.before, "before"),
        Line("after", concepts.curve.rank, concepts.curve.after, "after"),
    ]
    levels = [(f"t = {concepts.t:,.4g}", concepts.t)] if concepts.t else []
    return line_chart(
        "Texts per concept, by rank", lines, x_label="concepts by rank", y_label="texts", log_x=True, log_y=True,
        levels=levels, height=330, ends=False,
    )  # fmt: skip


def entry_bars(concepts: Concepts, most: int = 40) -> list[EntryBar]:
    head = concepts.head[:most]
    widest = max((max(item.before, item.after) for item in head), default=0) or 1
    return [EntryBar(item, 100 * item.before / widest, 100 * item.after / widest) for item in head]


def concept_histogram(concepts: Concepts) -> Chart | None:
    """How many concepts have how many texts: the tail on the left, the head on the right of t."""
    found = concepts.histogram
    if found is None:
        return None
    cuts = [concepts.t] if concepts.t else []
    return histogram("Concepts by number of texts", found.edges, found.before, found.after, cuts, x_label="texts")


def histograms(summary: Summary) -> list[Chart]:
    charts = []
    order = [name for name in _FIRST if name in summary.histograms]
    for name in order + sorted(summary.histograms.keys() - set(order)):
        item = summary.histograms[name]
        cuts = item.cut if isinstance(item.cut, list) else [] if item.cut is None else [item.cut]
        charts.append(histogram(words_of(name).capitalize(), item.edges, item.before, item.after, cuts))
    return [chart for chart in charts if chart is not None]


def bars(counts: Mapping[str, int], most: int = 14) -> list[Bar]:
    """Largest first; what does not fit is summed in one last bar."""
    ordered = sorted(((n, label) for label, n in counts.items() if n), key=lambda item: (-item[0], item[1]))
    shown = [(label or "not given", n) for n, label in ordered[:most]]
    if rest := ordered[most:]:
        shown.append((f"{len(rest)} others", sum(n for n, _ in rest)))
    widest = max((n for _, n in shown), default=1)
    return [Bar(label, n, 100 * n / widest) for label, n in shown]


def caption_bars(before: Sequence[CaptionCount], after: Sequence[CaptionCount]) -> tuple[list[Bar], list[Bar]]:
    """The most frequent captions on one common scale; `gone` marks those that no longer are among the most frequent."""
    still = {item.text for item in after}
    widest = max((item.pairs for item in (*before, *after)), default=0) or 1
    left = [Bar(item.text, item.pairs, 100 * item.pairs / widest, item.text not in still) for item in before]
    right = [Bar(item.text, item.pairs, 100 * item.pairs / widest) for item in after]
    return left[:MAX_CAPTIONS], right[:MAX_CAPTIONS]


def inputs(summary: Summary, most: int = 40) -> Inputs:
    """Largest parts first, and a total over all of them."""
    return counted_rows(sorted(summary.inputs, key=lambda item: (-item.bytes, item.part)), most)


def counted_rows(ordered: Sequence[InputPart], most: int) -> Inputs:
    """A row for each of the first `most`, a column for each count that any of them has, and a total over all."""
    whole: dict[str, int] = {}
    for item in ordered:
        for key, n in item.counts.items():
            whole[key] = whole.get(key, 0) + n
    names = sorted((key for key, n in whole.items() if n and not _is_bad(key)), key=_column_order)[:_MAX_COLUMNS]
    total = InputPart(part="", path="", digest="", bytes=sum(item.bytes for item in ordered), counts=whole)
    rows = tuple(_input_row(item, names) for item in ordered[:most])
    labels = tuple(_LABELS.get(name, words_of(name)) for name in names)
    return Inputs(rows, len(ordered) - len(rows), _input_row(total, names), labels)


def _input_row(item: InputPart, names: Sequence[str]) -> InputRow:
    bad = sorted((-n, key) for key, n in item.counts.items() if _is_bad(key) and n)
    reasons = tuple((_bad_label(key), -n) for n, key in bad[:_MAX_COLUMNS])
    counts = tuple((name, item.counts.get(name, 0)) for name in names)
    return InputRow(item.part, place(item.path), item.bytes, counts, reasons)


def _is_bad(key: str) -> bool:
    return key.startswith(("bad_", "failed:"))


def _bad_label(key: str) -> str:
    """`bad_texts:too_long` -> `texts: too long`."""
    what, _, reason = key.removeprefix("bad_").removeprefix("failed:").partition(":")
    return f"{words_of(what)}: {words_of(reason)}" if reason else words_of(what)


def _column_order(name: str) -> tuple[int, str]:
    order = ("records", "responses", "pages", "mentions", "occurrences", "images", "images_stored")
    return (order.index(name) if name in order else len(order), name)
