"""How likely a text is to stay when concepts are balanced (MetaCLIP; Xu et al., 2023), and the other way round.

MetaCLIP draws once for each entry that a text mentions and keeps the text at the first draw below
p_e = t / max(count_e, t): it stays with 1 - prod(1 - p_e). Here one uniform is held against that product: the same
chance, from one draw that also says at which t the text comes in.
"""

import numpy as np

_BISECTIONS = 64  # halvings of [0, largest count]: finer than a float64 of that size


def starts_of(owner: np.ndarray) -> np.ndarray:
    """Where each number of a sorted array stands first."""
    return np.flatnonzero(np.diff(owner, prepend=-1))


def keep_probability(owner: np.ndarray, counts: np.ndarray, num: int, t: float | np.ndarray) -> np.ndarray:
    """1 - prod(1 - t / max(count, t)) for each of `num` texts; `owner` (sorted, every text at least once) has `counts`,
    and where it is an array, `t`.

    A count of 0 marks a text without entries: probability 1.
    """
    # Products one after the other, not sums of logarithms: the same float64 on every machine.
    missing = np.where(counts > t, 1.0 - t / np.maximum(counts, 1.0), 0.0)
    return 1.0 - np.multiply.reduceat(missing, starts_of(owner)) if num else np.zeros(0)


def threshold_t(owner: np.ndarray, counts: np.ndarray, draw: np.ndarray) -> np.ndarray:
    """The smallest t (to float64) at which each text is kept, that is draw < keep_probability. Arguments as there."""
    num = len(draw)
    if not num:
        return np.zeros(0)
    starts = starts_of(owner)
    high = np.minimum.reduceat(counts.astype(np.float64), starts)  # at the rarest entry's count it is certain
    low = np.zeros(num)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        share = np.minimum(middle[owner] / np.maximum(counts, 1.0), 1.0)
        kept = draw < 1.0 - np.multiply.reduceat(1.0 - share, starts)
        high, low = np.where(kept, middle, high), np.where(kept, low, middle)
    return high


def tail_share(counts: np.ndarray, t: float) -> float:
    """The share of all mentions that fall on entries with fewer than t (MetaCLIP 2; Chuang et al., 2025)."""
    total = counts.sum()
    return float(counts[counts < t].sum() / total) if total else 0.0


def t_of_share(counts: np.ndarray, share: float) -> float:
    """The other way round: of the counts, in order, the first up to which the share of mentions is nearest to it."""
    counts = np.sort(counts)
    return float(counts[np.abs(np.cumsum(counts) / counts.sum() - share).argmin()])
