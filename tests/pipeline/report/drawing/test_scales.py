"""Ranges and ticks of axes, as far as numbers go."""

import math

import pytest

from pipeline.report.drawing.scales import log_ticks, padded


@pytest.mark.parametrize(("low", "high"), [(1.0, 1e306), (1e-307, 1.0), (1.7e308, 1.7e308), (3.0, 3.0), (1.0, 1000.0)])
def test_a_logarithmic_range_ends_where_numbers_do(low, high):
    bottom, top = padded(low, high, log=True)
    assert 0 < bottom < top < math.inf and (bottom <= low or low < 1e-300) and (high <= top or high > 1e308)
    assert all(math.isfinite(tick) for tick in log_ticks(bottom, top))
