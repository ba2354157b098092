"""Whole numbers add up to the total, and are next to the best there is, as a solver and the conditions say."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from curation.methods.shares import by_share, projected

BOX = st.lists(st.tuples(st.integers(1, 2**40), st.integers(-1, 20), st.integers(0, 60)), min_size=1, max_size=12)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=9), st.integers(0, 10**6))
def test_parts_add_up_and_are_within_one_of_their_share(shares, total):
    found = by_share([Fraction(each, 7) for each in shares], total)
    assert sum(found) == total
    assert all(abs(part - total * each / sum(shares)) < 1 for part, each in zip(found, shares, strict=True))


@given(BOX, st.integers(0, 600))
def test_a_projection_adds_up_keeps_its_bounds_and_meets_the_conditions_of_the_best(box, total):
    weights, low, high = [each[0] for each in box], [each[1] for each in box], [each[1] + each[2] for each in box]
    found = projected(weights, low, high, total)
    assert all(a <= x <= b for a, x, b in zip(low, found, high, strict=True))
    assert sum(found) == min(max(total, sum(low)), sum(high))
    if not sum(low) < total < sum(high):
        return
    # One shift serves all (Karush, Kuhn, Tucker): who is above its own has a low bound, who is below a high one.
    shift = [x - total * Fraction(weight, sum(weights)) for x, weight in zip(found, weights, strict=True)]
    free = [each for each, x, a, b in zip(shift, found, low, high, strict=True) if a < x < b]
    if free:
        assert max(free) - min(free) < 2
        for each, x, a, b in zip(shift, found, low, high, strict=True):
            assert each <= max(free) + 2 or x == a
            assert each >= min(free) - 2 or x == b


def test_a_projection_is_that_of_a_solver():
    rng = np.random.default_rng(0)
    for _ in range(10):
        weights, low = rng.integers(1, 1000, 6), rng.integers(0, 5, 6)
        high, total = low + rng.integers(1, 80, 6), 100
        if not low.sum() < total < high.sum():
            continue
        aim = total * weights / weights.sum()
        solved = minimize(
            lambda x, aim=aim: ((x - aim) ** 2).sum(), (low + high) / 2, method="SLSQP",
            bounds=list(zip(low, high, strict=True)), constraints={"type": "eq", "fun": lambda x: x.sum() - 100},
            options={"ftol": 1e-12, "maxiter": 500},
        ).x  # fmt: skip
        found = projected(weights.tolist(), low.tolist(), high.tolist(), total)
        assert np.abs(np.array(found) - solved).max() < 1.01


def test_what_is_left_over_goes_to_the_first_of_equals():
    assert by_share([1, 1, 1], 100) == [34, 33, 33]
