"""Shares of a bad kind among the pairs of sites, judged with regard to how much is known of each (beta-binomial)."""

import numpy as np


def shrunken(bad: np.ndarray, num: np.ndarray, mean: float | np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """The share `bad` of `num` as it is to be believed: `weight` pairs of share `mean` are added to what was seen."""
    return (bad + weight * mean) / (num + weight)


def weight_of_whole(bad: np.ndarray, num: np.ndarray) -> float:
    """How many pairs of a site's mean share its sections are to be given: few where sections differ more than chance
    lets them, infinitely many where they do not. Moments of the beta-binomial (Kleinman, 1973)."""
    total, share = num.sum(), bad.sum() / max(num.sum(), 1)
    free = total - (num**2).sum() / max(total, 1) - (len(num) - 1)
    if len(num) < 2 or not 0 < share < 1 or free <= 0:
        return np.inf
    excess = (num * (bad / num - share) ** 2).sum() / (share * (1 - share)) - (len(num) - 1)
    likeness = excess / free  # correlation of two pairs of one section
    return np.inf if likeness <= 0 else max(1 - likeness, 0.0) / likeness


def section_shares(bad: np.ndarray, num: np.ndarray, mean: float, weight: float) -> np.ndarray:
    """The share to be believed of each section of one site: the site is drawn to `mean`, its sections to the site."""
    whole = float(shrunken(bad.sum(), num.sum(), mean, weight))
    own = weight_of_whole(bad, num)
    return np.full(len(num), whole) if np.isinf(own) else shrunken(bad, num, whole, own)
