"""Captions of made-up words, the first of which are the most frequent (the laws of Zipf and Mandelbrot)."""

from collections.abc import Iterator

import numpy as np

WORDS = 30_000
_HEAD = "b c d f g h k l m n p r s t v br dr kl st tr".split()
_TAIL = "a e i o u an en il or ut".split()
_SYLLABLES = [head + tail for head in _HEAD for tail in _TAIL]


def word(number: int) -> str:
    """Syllables, every number other ones."""
    found = ""
    while True:
        found += _SYLLABLES[number % len(_SYLLABLES)]
        number //= len(_SYLLABLES)
        if not number:
            return found


def captions(seed: int, number: int, words: int = 6, families: int = 0) -> Iterator[str]:
    """With `families` one in ten is a variant of one of so many texts, which other seeds have, too, and no word is as
    frequent as one in fifty: the share of those alike does not rise with the number, where texts are so long that no
    others are."""
    told = [word(at) for at in range(WORDS + 1)]
    rng = np.random.default_rng(seed)
    if families:
        ends = np.cumsum(1.0 / (np.arange(1, WORDS + 1) + 10.0) ** 1.1)
        rows = np.searchsorted(ends, rng.random((number, words)) * ends[-1], side="right") + 1
    else:
        rows = np.minimum(rng.zipf(1.3, (number, words)), WORDS)
    of = rng.integers(0, max(families, 1), number)
    for at in range(0, number if families else 0, 10):
        rows[at, 1:] = np.random.default_rng([1, of[at]]).integers(0, WORDS, words - 1)
    for row in rows.tolist():
        yield " ".join(told[at] for at in row)
