"""Curves of a training run and the table of evaluation results."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.report.data import Evaluated, Trained
from pipeline.report.drawing.charts import Chart, Key, Line, dumbbell, line_chart, stacked_area
from pipeline.report.drawing.curves import Steps
from pipeline.report.figures import metric_name, number_text
from pipeline.report.schemas import EvalResults, EvalSet

TIMES = (
    ("waiting for data", "time_fetch_s"),
    ("pass 1", "time_pass1_s"),
    ("loss", "time_loss_s"),
    ("pass 2", "time_pass2_s"),
    ("optimizer", "time_optimizer_s"),
)
MAX_CURVES = 6  # in one picture
_HEADLINES = ("i2t_r10", "i2t_r5", "i2t_r1", "t2i_r10", "top1", "acc1")


def training_charts(trained: Trained) -> list[Chart]:
    """What there is to draw, in the order to read it; fields that were never logged give no picture."""
    logged, xs = trained.steps, trained.steps.steps
    charts = [
        _one(logged, "Loss", "loss"),
        line_chart(
            "Accuracy inside the batch",
            [
                Line("image-to-text", xs, logged.values["acc_i2t"], "s1", noisy=True),
                Line("text-to-image", xs, logged.values["acc_t2i"], "s2", noisy=True),
            ],
            zero=True,
        ),
        _one(logged, "Logit scale", "logit_scale", noisy=False),
        _one(logged, "Learning rate", "lr", noisy=False, zero=True, word="peak"),
        _one(logged, "Gradient norm", "grad_norm"),
        _one(logged, "Pairs per second", "samples_per_s", zero=True, word="median"),
        _time_split(logged),
        _one(logged, "Memory (MB)", "memory_mb", noisy=False, zero=True, word="peak"),
    ]
    return [chart for chart in charts if chart is not None]


def _one(
    logged: Steps, title: str, name: str, *, noisy: bool = True, zero: bool = False, word: str = ""
) -> Chart | None:
    """One field over the steps. `word` picks what stands beside the title: peak, median, or else first and last."""
    values = logged.values[name]
    chart = line_chart(title, [Line("", logged.steps, values, "s1", noisy=noisy)], zero=zero)
    if chart is None or not word:
        return chart
    finite = values[np.isfinite(values)]
    figure = float(np.median(finite) if word == "median" else finite.max())
    return replace(chart, legend=(Key("s1", word, number_text(figure)),))


def _time_split(logged: Steps) -> Chart | None:
    layers = [(label, logged.values[name]) for label, name in TIMES if logged.has(name)]
    return stacked_area("Seconds of a step", logged.steps, layers, unit="s") if layers else None


def eval_charts(trained: Trained, evaluated: Evaluated | None) -> list[Chart]:
    """One picture per evaluation set: its metrics over the steps, from the untrained model on if it was scored."""
    by_set: dict[str, dict[str, list[tuple[int, float]]]] = {}
    points = trained.evals
    if points and points[0][0] > 0 and evaluated and evaluated.results.before:
        known = {key for _, numbers in points for key in numbers}
        points = [(0, {key: n for key, n in evaluated.results.before.items() if key in known}), *points]
    for step, numbers in points:
        for key, value in numbers.items():
            name, _, metric = key.rpartition("/")
            by_set.setdefault(name or "evaluation", {}).setdefault(metric, []).append((step, value))
    charts = []
    for name in sorted(by_set):
        lines = []
        for i, metric in enumerate(sorted(by_set[name], key=_metric_order)[:MAX_CURVES]):
            steps, values = np.array(by_set[name][metric], dtype=np.float64).T
            lines.append(Line(metric_name(metric), steps, values, f"s{i + 1}", dots=len(steps) <= 40))
        charts.append(line_chart(name, lines, zero=True))
    return [chart for chart in charts if chart is not None]


@dataclass(frozen=True)
class EvalRow:
    set_name: str
    metric: str
    chance: float | None
    before: float | None
    after: float
    picture: str

    @property
    def change(self) -> float | None:
        return None if self.before is None else self.after - self.before

    @property
    def label(self) -> str:
        return metric_name(self.metric)


@dataclass(frozen=True)
class EvalGroup:
    name: str
    about: str
    rows: tuple[EvalRow, ...]


def eval_groups(evaluated: Evaluated) -> list[EvalGroup]:
    """The results by set, in the order of the recipe; sets the file does not describe come last."""
    found = evaluated.results
    described = {item.name: item for item in found.sets}
    rows: dict[str, list[EvalRow]] = {}
    for key in sorted(found.results, key=_metric_order):
        rows.setdefault(key.rpartition("/")[0], []).append(_row(found, key, described.get(key.rpartition("/")[0])))
    names = [name for name in described if name in rows] + sorted(name for name in rows if name not in described)
    return [EvalGroup(name or "evaluation", _about(described.get(name)), tuple(rows[name])) for name in names]


def headline(evaluated: Evaluated) -> EvalRow | None:
    """The one result that stands in the first line: retrieval recall if there is one, else the first in order."""
    rows = [row for group in eval_groups(evaluated) for row in group.rows]
    for wanted in _HEADLINES:
        for row in rows:
            if row.metric == wanted:
                return row
    return rows[0] if rows else None


def _metric_order(key: str) -> tuple[str, str, int, str]:
    """`r1` before `r5` before `r10`."""
    name, _, metric = key.rpartition("/")
    stem = metric.rstrip("0123456789")
    return name, stem, int(metric[len(stem) :] or 0), metric


def _row(found: EvalResults, key: str, described: EvalSet | None) -> EvalRow:
    name, _, metric = key.rpartition("/")
    chance = described.chance if described else None
    if isinstance(chance, dict):
        chance = chance.get(metric, chance.get(key))
    before, after = (found.before or {}).get(key), found.results[key]
    return EvalRow(name, metric, chance, before, after, dumbbell(before, after, chance))


def _about(described: EvalSet | None) -> str:
    if described is None:
        return ""
    counts = ((described.images, "images"), (described.texts, "texts"), (described.classes, "classes"))
    words = [described.kind.replace("_", " ")] if described.kind else []
    return ", ".join(words + [f"{n:,} {what}" for n, what in counts if n is not None])
