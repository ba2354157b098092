"""An answer in another language than the one that was asked for."""

from curation.generation.checks.asked import Detect
from curation.generation.languages import is_told

_NOT_LATIN = frozenset(
    "ab am ar as ba be bg bn bo ce ckb cv dv dz el fa gu he hi hy ja ka km kn ko ky lo mk ml mn mr my ne or os pa ps "
    "ru sa sd si ta te tg th ti tt ug uk ur wuu yi yue zh".split()
)
_EITHER = frozenset("az kk ku sh sr tk uz".split())
"""Languages written in Latin letters and in others."""
_ALIKE = ({"bs", "hr", "sh", "sr"}, {"nb", "nn", "no"}, {"wuu", "yue", "zh"}, {"id", "ms"})
"""Those that fastText cannot hold apart in one sentence, or has under another code."""


_SURE, _UNLIKELY = 0.3, 0.05


def is_other(text: str, language: str, detect: Detect) -> bool:
    """By its script; by its words only where it is long enough to tell, and another language is likely and this one is
    not."""
    letters = [char for char in text if char.isalpha()]
    foreign = sum(not _is_latin(char) for char in letters)
    if language in _NOT_LATIN and len(letters) > 15 and not foreign:
        return True
    if language not in _NOT_LATIN | _EITHER and foreign > 0.3 * len(letters):
        return True
    if language in _HAN and _is_of_the_other_han(letters, language):
        return True
    if (len(letters) < 16 and text.isascii()) or not is_told(language):
        return False
    chances = detect(text)
    own = sum(chance for each, chance in chances.items() if is_alike(each, language))
    return own < _UNLIKELY and max(chances.values(), default=0) >= _SURE


def is_in(text: str, language: str, detect: Detect) -> bool:
    """Whether it surely is in this language already."""
    if sum(map(str.isalpha, text)) < _LEAST:
        return False
    return sum(chance for each, chance in detect(text).items() if is_alike(each, language)) >= _IS_IN


_LEAST, _IS_IN = 8, 0.7
_HAN = frozenset("ja wuu yue zh".split())


def _is_of_the_other_han(letters: list[str], language: str) -> bool:
    """Japanese has its own letters between the Chinese ones, in all but short names."""
    own = sum("\u3041" <= char <= "\u30ff" for char in letters)
    return own == 0 and len(letters) >= 8 if language == "ja" else own > 0.2 * len(letters)


def is_alike(one: str, other: str) -> bool:
    """Whether both are one language here."""
    return one == other or any(one in group and other in group for group in _ALIKE)


def _is_latin(char: str) -> bool:
    return ord(char) < 0x0250 or 0x1E00 <= ord(char) < 0x1F00
