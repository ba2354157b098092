"""Charts as inline SVG: no script, no library, coloured by the page's own style sheet (so dark mode and print work).

A chart is a picture plus a legend in words; the words are HTML, so they wrap and scale with the page. Colours carry one
meaning over the whole report: `after` = kept, `before` = all that came in, `s1`..`s6` = series without an order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pipeline.report.drawing.curves import smoothed, thinned
from pipeline.report.drawing.scales import Scale, padded
from pipeline.report.figures import cut_text, number_text, plain, tick_text

WIDTH, NARROW, HEIGHT = 400, 290, 214
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 34


@dataclass(frozen=True)
class Line:
    """One curve. `noisy` draws the values faintly and their moving mean on top."""

    label: str
    xs: Sequence[float] | np.ndarray
    ys: Sequence[float] | np.ndarray
    tone: str = "after"
    noisy: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Key:
    """One line of a legend."""

    tone: str
    label: str
    value: str = ""


@dataclass(frozen=True)
class Chart:
    title: str
    svg: Markup
    legend: tuple[Key, ...] = ()
    note: str = ""


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str = "step",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    zero: bool = False,
    levels: Sequence[tuple[str, float]] = (),
    height: int = HEIGHT,
    ends: bool = True,
) -> Chart | None:
    """Curves over one x axis, or None if no point can be drawn. `levels` are labelled horizontal lines.

    A logarithmic axis leaves out values <= 0. The legend gives each curve's first and
    last value if `ends`.
    """
    drawn = [(line, *_drawable(line, log_x, log_y)) for line in lines]
    drawn = [(line, xs, ys) for line, xs, ys in drawn if len(xs)]
    if not drawn:
        return None
    all_x = np.concatenate([xs for _, xs, _ in drawn])
    all_y = np.concatenate([ys for _, _, ys in drawn] + [np.array([level for _, level in levels], dtype=np.float64)])
    low_x, high_x = float(all_x.min()), float(all_x.max())
    if low_x == high_x:
        low_x, high_x = padded(low_x, high_x, log=log_x)
    x = Scale(low_x, high_x, LEFT, WIDTH - RIGHT, log_x)
    y = Scale(*padded(float(all_y.min()), float(all_y.max()), log=log_y, zero=zero), height - BOTTOM, TOP, log_y)
    body = [axes(x, y, height, x_label, y_label)]
    for text, level in levels:
        body.append(_level(y(level), text))
    keys, spoken = [], []
    for line, xs, ys in drawn:
        first, last = number_text(float(ys[0])), number_text(float(ys[-1]))
        body.append(_curve(line, xs, ys, x, y))
        keys.append(Key(line.tone, line.label, f"{first} → {last}" if ends else ""))
        spoken.append(f"{line.label} from {first} at {tick_text(xs[0])} to {last} at {tick_text(xs[-1])}")
    return Chart(title, svg_of(f"{title}: " + "; ".join(words.strip() for words in spoken), body, height), tuple(keys))


def _drawable(line: Line, log_x: bool, log_y: bool) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(line.xs, dtype=np.float64), np.asarray(line.ys, dtype=np.float64)
    good = np.isfinite(xs) & np.isfinite(ys)
    if log_x:
        good &= xs > 0
    if log_y:
        good &= ys > 0
    return thinned(xs[good], ys[good])


def _curve(line: Line, xs: np.ndarray, ys: np.ndarray, x: Scale, y: Scale) -> Markup:
    window = max(3, len(ys) // 20) if line.noisy and len(ys) >= 12 else 0
    parts = []
    if window:
        parts.append(_path(xs, ys, x, y, f"line faint t-{line.tone}"))
        ys = smoothed(ys, window)
    parts.append(_path(xs, ys, x, y, f"line t-{line.tone}"))
    if line.dots or len(xs) == 1:
        for a, b in zip(xs, ys, strict=True):
            dot = Markup('<circle class="dot t-{}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>')
            parts.append(dot.format(line.tone, x(a), y(b)))
    return Markup("").join(parts)


def _path(xs: np.ndarray, ys: np.ndarray, x: Scale, y: Scale, css: str) -> Markup:
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))
    return Markup('<polyline class="{}" points="{}"/>').format(css, points)


def stacked_area(
    title: str, xs: Sequence[float] | np.ndarray, layers: Sequence[tuple[str, np.ndarray]], *, unit: str
) -> Chart | None:
    """Layers of non-negative numbers on top of each other; the legend gives each layer's share of the whole."""
    columns = [(label, *thinned(np.asarray(xs, dtype=np.float64), np.nan_to_num(ys), 160)) for label, ys in layers]
    total = sum(float(ys.sum()) for _, _, ys in columns)
    if not columns or total <= 0 or len(columns[0][1]) < 2:
        return None
    steps = columns[0][1]
    tops = np.cumsum([ys for _, _, ys in columns], axis=0)
    x = Scale(float(steps[0]), float(steps[-1]), LEFT, WIDTH - RIGHT)
    # one slow step (a checkpoint, a cold cache) must not flatten all the others
    ceiling = min(float(tops[-1].max()), 3 * float(np.quantile(tops[-1], 0.9)))
    y = Scale(*padded(0.0, ceiling, zero=True), HEIGHT - BOTTOM, TOP)
    body, keys, spoken = [axes(x, y, HEIGHT, "step", unit)], [], []
    floor = np.zeros_like(steps)
    for i, (label, _, ys) in enumerate(columns):
        outline = [(x(a), max(y(b), TOP)) for a, b in zip(steps, tops[i], strict=True)]
        outline += [(x(a), max(y(b), TOP)) for a, b in zip(steps[::-1], floor[::-1], strict=True)]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in outline)
        body.append(Markup('<polygon class="area t-s{}" points="{}"/>').format(i % 6 + 1, points))
        portion = f"{100 * float(ys.sum()) / total:.0f}%"
        keys.append(Key(f"s{i % 6 + 1}", label, portion))
        spoken.append(f"{label} {portion}")
        floor = tops[i]
    return Chart(title, svg_of(f"{title}, shares of the whole: " + ", ".join(spoken), body, HEIGHT), tuple(keys))


def histogram(
    title: str,
    edges: Sequence[float],
    before: Sequence[float],
    after: Sequence[float],
    cuts: Sequence[float] = (),
    *,
    x_label: str = "",
) -> Chart | None:
    """Grey columns for what came in, coloured ones in front for what was kept, a dashed line at every cut."""
    edges = _finite_edges(edges)
    if len(edges) < 2 or len(before) != len(edges) - 1 or len(after) != len(before) or not any(before):
        return None
    widths = np.diff(edges)
    log_x = edges[0] > 0 and widths[-1] > 5 * widths[0]
    x = Scale(edges[0], edges[-1], LEFT, NARROW - RIGHT, bool(log_x))
    y = Scale(0.0, 1.08 * max(*before, *after), HEIGHT - BOTTOM, TOP)
    body = [axes(x, y, HEIGHT, x_label, "")]
    for tone, columns in (("before", before), ("after", after)):
        for i, value in enumerate(columns):
            if value:
                left, right, top = x(edges[i]), x(edges[i + 1]), y(value)
                body.append(
                    Markup('<rect class="bar t-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                        tone, left + 0.4, top, max(right - left - 0.8, 0.6), HEIGHT - BOTTOM - top
                    )
                )
    for cut in cuts:
        if edges[0] <= cut <= edges[-1]:
            body.append(cut_line(x(cut), f"cut {cut_text(cut)}", NARROW - RIGHT))
    total, kept = sum(before), sum(after)
    cut_words = f", cut at {', '.join(map(cut_text, cuts))}" if cuts else ""
    spoken = f"{title}: {total:,.0f} before, {kept:,.0f} after, from {tick_text(edges[0])} to {tick_text(edges[-1])}"
    keys = (Key("before", "came in", f"{total:,.0f}"), Key("after", "kept", f"{kept:,.0f}"))
    return Chart(title, svg_of(spoken + cut_words, body, HEIGHT, NARROW), keys)


def _finite_edges(edges: Sequence[float]) -> list[float]:
    """An open last bin is drawn as wide as the one before it."""
    finite = [float(edge) for edge in edges if math.isfinite(edge)]
    if len(finite) == len(edges) - 1 and len(finite) >= 2:
        finite.append(2 * finite[-1] - finite[-2])
    return finite


def dumbbell(before: float | None, after: float, chance: float | None) -> Markup:
    """One line from `before` to `after` on [0, 1], with a tick at chance. Empty for numbers outside [0, 1]."""
    shown = [value for value in (before, after, chance) if value is not None]
    if not all(0 <= value <= 1 for value in shown):
        return Markup("")
    x = Scale(0.0, 1.0, 5, 175)
    parts = [Markup('<line class="rail" x1="5" x2="175" y1="9" y2="9"/>')]
    if chance is not None:
        parts.append(Markup('<line class="chance" x1="{0:.1f}" x2="{0:.1f}" y1="2" y2="16"/>').format(x(chance)))
    if before is not None:
        parts.append(Markup('<line class="gain" x1="{:.1f}" x2="{:.1f}" y1="9" y2="9"/>').format(x(before), x(after)))
        parts.append(Markup('<circle class="dot t-before" cx="{:.1f}" cy="9" r="4"/>').format(x(before)))
    parts.append(Markup('<circle class="dot t-after" cx="{:.1f}" cy="9" r="4.6"/>').format(x(after)))
    svg = Markup('<svg class="dumbbell" viewBox="0 0 180 18" aria-hidden="true">{}</svg>')
    return svg.format(Markup("").join(parts))


def svg_of(description: str, body: Sequence[Markup], height: int, width: int = WIDTH) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, plain(description, 1000), Markup("").join(body)
    )


def axes(x: Scale, y: Scale, height: int, x_label: str, y_label: str) -> Markup:
    parts = []
    left, right, base = x.start, x.end, height - BOTTOM
    for value in y.ticks(4):
        at = y(value)
        parts.append(_rule("mark", left, right, at, at))
        parts.append(_text(left - 6, at + 3.5, tick_text(value), "end"))
    parts.append(_rule("axis", left, right, base, base))
    for value in x.ticks(5):
        at, text = x(value), tick_text(value)
        parts.append(_rule("axis", at, at, base, base + 4))
        parts.append(_text(min(at, right + RIGHT - 3 * len(text)), base + 15, text, "middle"))
    if x_label:
        parts.append(_text(right, base + 29, x_label, "end", "label"))
    if y_label:
        parts.append(_text(left + 4, TOP + 6, y_label, "start", "label"))
    return Markup("").join(parts)


def _rule(css: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(css, x1, x2, y1, y2)


def _text(x: float, y: float, text: str, anchor: str, css: str = "tick") -> Markup:
    tag = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return tag.format(css, x, y, anchor, plain(text, 80))


def _level(at: float, text: str) -> Markup:
    return _rule("level", LEFT, WIDTH - RIGHT, at, at) + _text(WIDTH - RIGHT - 2, at - 4, text, "end", "label")


def cut_line(at: float, text: str, right: float) -> Markup:
    near_right = at > right - 60
    label = _text(at - 5 if near_right else at + 5, TOP + 6, text, "end" if near_right else "start", "cut-label")
    return _rule("cut", at, at, TOP - 4, HEIGHT - BOTTOM) + label
