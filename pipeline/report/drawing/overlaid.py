"""Counts of several runs over the same edges, as outlines that do not hide each other."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pipeline.report.drawing.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Key, axes, cut_line, svg_of
from pipeline.report.drawing.scales import Scale
from pipeline.report.figures import count_text, cut_text, tick_text

Series = tuple[str, str, Sequence[float]]
"""label, tone, count of each bin."""


def outlines(
    title: str, edges: Sequence[float], series: Sequence[Series], cuts: Sequence[float] = (), *, x_label: str = ""
) -> Chart | None:
    """None when there is nothing to draw. Bins widen by a factor where the last is much wider than the first."""
    bounds = np.asarray(edges, np.float64)
    if len(bounds) < 2 or not np.isfinite(bounds).all() or not any(sum(counts) for *_, counts in series):
        return None
    log_x = bool(bounds[0] > 0 and bounds[-1] - bounds[-2] > 5 * (bounds[1] - bounds[0]))
    x = Scale(float(bounds[0]), float(bounds[-1]), LEFT, WIDTH - RIGHT, log_x)
    top = max(max(counts, default=0) for *_, counts in series)
    y = Scale(0.0, 1.08 * top, HEIGHT - BOTTOM, TOP)
    body, keys, spoken = [axes(x, y, HEIGHT, x_label, "")], [], []
    for label, tone, counts in series:
        heights = [0.0, *np.repeat(np.asarray(counts, np.float64), 2).tolist(), 0.0]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(np.repeat(bounds, 2), heights, strict=True))
        body.append(Markup('<polyline class="line outline t-{}" points="{}"/>').format(tone, points))
        keys.append(Key(tone, label, count_text(sum(counts))))
        spoken.append(f"{label} {count_text(sum(counts))}")
    for cut in cuts:
        if bounds[0] <= cut <= bounds[-1]:
            body.append(cut_line(x(cut), f"cut {cut_text(cut)}", WIDTH - RIGHT))
    words = f"{title}: {', '.join(spoken)}, from {tick_text(float(bounds[0]))} to {tick_text(float(bounds[-1]))}"
    return Chart(title, svg_of(words, body, HEIGHT), tuple(keys))
