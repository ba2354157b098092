"""Whole numbers that add up: shares of a total, and quotas between bounds. Exact arithmetic, no rounding on the way."""

from collections.abc import Sequence
from fractions import Fraction


def by_share(shares: Sequence[Fraction], total: int) -> list[int]:
    """Parts of `total` in the ratio of `shares`, by largest remainder, of equal ones the first."""
    whole = sum(shares, Fraction(0))
    return _rounded([share * total / whole for share in shares], total)


def projected(weights: Sequence[int], low: Sequence[int], high: Sequence[int], total: int) -> list[int]:
    """Whole numbers x that add up to `total`, low <= x <= high, nearest to total x weight / sum of weights.

    Without wholeness that is the projection onto a simplex with bounds: x = clip(target + shift), and the one shift for
    which they add up is found by walking through all places where a bound is met (its sum is piecewise linear). The
    parts behind the point then go to those with the largest ones, of equal ones to the first.
    """
    if total >= sum(high):
        return list(high)
    if total <= sum(low):
        return list(low)
    scale = sum(weights)
    aim = [total * weight for weight in weights]  # in units of 1 / scale, as all below
    turns = sorted(
        [(low[at] * scale - each, 1) for at, each in enumerate(aim)]
        + [(high[at] * scale - each, -1) for at, each in enumerate(aim)]
    )
    reached, slope, shift = Fraction(sum(low) * scale), 0, Fraction(turns[0][0])
    for place, turn in turns:
        ahead = reached + slope * (place - shift)
        if slope and ahead >= total * scale:
            break
        reached, shift, slope = ahead, Fraction(place), slope + turn
    shift += Fraction(total * scale - reached) / slope
    found = [
        min(max((each + shift) / scale, Fraction(bottom)), Fraction(top))
        for each, bottom, top in zip(aim, low, high, strict=True)
    ]
    return _rounded(found, total)


def _rounded(values: Sequence[Fraction], total: int) -> list[int]:
    down = [each.numerator // each.denominator for each in values]
    order = sorted(range(len(values)), key=lambda at: (down[at] - values[at], at))
    for at in order[: total - sum(down)]:
        down[at] += 1
    return down
