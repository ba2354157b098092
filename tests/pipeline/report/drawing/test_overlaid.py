"""Outlines of several runs: heights are counts, and the words say them too."""

import re

from pipeline.report.drawing.overlaid import outlines


def test_each_series_has_its_outline_and_its_sum():
    chart = outlines("Scores", [0.0, 1.0, 2.0], [("A kept", "a", [3, 1]), ("B kept", "b", [0, 2])], [0.5])
    assert [(key.label, key.value) for key in chart.legend] == [("A kept", "4"), ("B kept", "2")]
    svg = str(chart.svg)
    assert 'aria-label="Scores: A kept 4, B kept 2, from 0 to 2"' in svg and "cut 0.5" in svg
    one, two = re.findall(r'outline t-[ab]" points="([^"]+)"', svg)
    heights = [[float(point.split(",")[1]) for point in points.split()] for points in (one, two)]
    assert heights[0][1] == heights[0][2] < heights[1][3] == heights[1][4] < heights[0][0]  # down is more


def test_nothing_is_no_chart():
    assert outlines("x", [0.0, 1.0], [("A", "a", [0])]) is None
    assert outlines("x", [0.0], [("A", "a", [])]) is None
    assert outlines("x", [0.0, float("inf")], [("A", "a", [1])]) is None
