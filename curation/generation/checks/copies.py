"""Answers that are somebody else's words: the prompt's, an example's, an order's; or an edit that is none."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from curation.generation.checks.asked import Asked
from curation.generation.checks.phrases import ORDERS
from curation.generation.request import Answer
from curation.methods.concepts.matcher import words_of

_GRAM = 4
_FEW, _SHARE = 3, 0.4  # words that an edit may change: so many, or this share of the longer text


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(words[at:] for at in range(_GRAM)), strict=False))


@lru_cache(maxsize=64)
def _grams_said(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_grams(words_of(text)))


def echoes(text: str, answer: Answer, asked: Asked) -> bool:
    mine, said = _grams(words_of(text)), _grams_said(asked.said)
    if not mine or said.isdisjoint(mine):
        return False
    said = said - set(_grams(words_of(" ".join(asked.data))))
    return sum(gram in said for gram in mine) >= 0.4 * len(mine)


def is_example(text: str, answer: Answer, asked: Asked) -> bool:
    if not asked.targets:
        return False
    plain = " ".join(words_of(text))
    return plain in asked.targets and all(plain != " ".join(words_of(each)) for each in asked.data)


def obeys(text: str, answer: Answer, asked: Asked) -> bool:
    """A text of the web gives orders, and half of the answer or more stands behind them."""
    mine: list[str] = []
    for each in asked.data:
        if found := ORDERS.search(each):
            mine = mine or words_of(text)
            behind = set(words_of(each[found.start() :]))
            if sum(word in behind for word in mine) >= 0.5 * len(mine):
                return True
    return False


def is_unchanged(text: str, answer: Answer, asked: Asked) -> bool:
    return asked.edited is not None and words_of(text) == words_of(asked.edited)


def is_rewritten(text: str, answer: Answer, asked: Asked) -> bool:
    """More than an edit: of the words of both, whatever their order, too many stand in one alone."""
    if asked.edited is None:
        return False
    mine, before = Counter(words_of(text)), Counter(words_of(asked.edited))
    changed = max((mine - before).total(), (before - mine).total())
    return changed > max(_FEW, _SHARE * max(mine.total(), before.total())) or not mine & before
