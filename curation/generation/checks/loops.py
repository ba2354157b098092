"""An answer that goes round in circles."""

import re
from collections import Counter

from curation.generation.checks.asked import Asked
from curation.generation.request import Answer
from curation.methods.concepts.matcher import words_of

_LOOP = re.compile(r"(?=\S)(.{1,60}?)(?:[\s,.;]*\1){4,}", re.DOTALL)
_GRAM = 4


def repeats(text: str, answer: Answer, asked: Asked) -> bool:
    """A piece of it stands there five times in a row; four words stand there three times and make up a fifth of it; or
    few words make up all of it."""
    words = words_of(text)
    often = Counter(words)
    may = [text] if often and max(often.values()) >= 5 else [word for word in often if len(word) >= 12]
    for found in (each for piece in may for each in _LOOP.finditer(piece)):
        if len(found[0]) >= 12 and any(map(str.isalnum, found[1])):
            return True
    if len(words) >= 20 and len(often) < 0.3 * len(words):
        return True
    if len(words) < 3 * _GRAM or len(often) == len(words):
        return False
    grams = Counter(zip(*(words[at:] for at in range(_GRAM)), strict=False))
    most = max(grams.values())
    return most >= 3 and most * _GRAM >= 0.2 * len(words)
