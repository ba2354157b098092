"""Hard negatives without a model, for the stage `generate`: two words of a caption change places (NegCLIP, Yuksekgonul
et al., 2023; there, two nouns, verbs or the like, which a tagger finds).

    - {kind: generate, name: swapped, role: negative,
       backend: {kind: function, function: "examples.swap_words:swap", reads: [text]}}
"""

import re
from typing import Any

_WORD = re.compile(r"[^\W\d_]{3,}")


def swap(rows: list[dict[str, Any]]) -> list[list[str]]:
    """For each row {"text"}, the first and the last long word in each other's place; nothing where that changes
    nothing."""
    return [_swapped(row["text"]) for row in rows]


def _swapped(text: str) -> list[str]:
    words = list(_WORD.finditer(text))
    if len(words) < 2 or words[0][0].casefold() == words[-1][0].casefold():
        return []
    first, last = words[0], words[-1]
    return [text[: first.start()] + last[0] + text[first.end() : last.start()] + first[0] + text[last.end() :]]
