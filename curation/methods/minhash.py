"""Texts that are nearly the same: MinHash (Broder, 1997) finds who may be, the shingles themselves say who is.

A shingle is a run of characters of a text; two texts are as alike as the share of their distinct shingles that both
have (Jaccard). Signatures are numbers of the text alone, the same on any machine.
"""

from collections.abc import Iterator

import numpy as np

from curation.methods.kept_apart import Alike
from pipeline.draws import mixed

_TEXTS = 256  # whose shingles are hashed at once
_ROWS = 512  # of a matrix of likenesses at once
_SEED = np.uint64(0x9E3779B97F4A7C15)


def rows_for(threshold: float, hashes: int, recall: float) -> int:
    """The most hashes a band may have, so that two texts as alike as `threshold` share one of hashes // rows bands
    with a chance of `recall` at least; 1 when even that is too many."""
    rows = 1
    while rows < hashes and 1 - (1 - threshold ** (rows + 1)) ** (hashes // (rows + 1)) >= recall:
        rows += 1
    return rows


def shingles(texts: list[str], width: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 of every distinct shingle of each text, text by text and rising; first one of each text and the end). A
    text shorter than `width` is one shingle."""
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    lengths = np.array([len(text) for text in texts], np.int64)
    number = np.maximum(lengths - width + 1, 1)
    of = np.repeat(np.arange(len(texts)), number)
    within = np.arange(len(of)) - np.repeat(np.cumsum(number) - number, number)
    start = (np.cumsum(lengths) - lengths)[of] + within
    sizes = np.minimum(lengths[of], width)
    found = mixed(sizes.astype(np.uint64) + _SEED) if len(of) else np.zeros(0, np.uint64)
    padded = np.concatenate([points, np.zeros(width, np.uint64)])
    for at in range(width):
        found = np.where(at < sizes, mixed(found ^ (padded[start + at] + np.uint64(1))), found)
    order = np.lexsort([found, of])
    of, found = of[order], found[order]
    first = np.r_[True, (of[1:] != of[:-1]) | (found[1:] != found[:-1])] if len(of) else np.zeros(0, bool)
    return found[first], np.searchsorted(of[first], np.arange(len(texts) + 1))


def bands(texts: list[str], width: int, hashes: int, rows: int) -> np.ndarray:
    """uint64 [band, text]: equal for texts whose signatures agree in all of a band."""
    keys = mixed(np.arange(1, hashes // rows * rows + 1, dtype=np.uint64) * _SEED)
    made = [np.zeros((hashes // rows, 0), np.uint64)]
    for at in range(0, len(texts), _TEXTS):
        found, starts = shingles(texts[at : at + _TEXTS], width)
        least = np.minimum.reduceat(mixed(found[None] ^ keys[:, None]), starts[:-1], axis=1)
        band = np.broadcast_to(
            np.arange(1, hashes // rows + 1, dtype=np.uint64)[:, None], (hashes // rows, len(least.T))
        )
        for row in range(rows):
            band = mixed(band ^ least[row::rows])
        made.append(band)
    return np.concatenate(made, axis=1)


def alike(texts: list[str], width: int, threshold: float) -> Iterator[Alike]:
    """Which of `texts`, all distinct, are at least as alike as `threshold`."""
    from scipy.sparse import csr_array  # not for those who only read settings

    found, starts = shingles(texts, width)
    known, column = np.unique(found, return_inverse=True)
    has = csr_array((np.ones(len(found), np.int32), column, starts), shape=(len(texts), len(known)))
    size, places = np.diff(starts), np.arange(len(texts))
    for at in range(0, len(texts), _ROWS):
        rows = places[at : at + _ROWS]
        both = (has[rows] @ has.T).toarray().astype(np.int64)
        near = both >= threshold * (size[rows, None] + size[None] - both)
        near &= rows[:, None] != places[None]
        yield rows, places, near
