"""Runs of words that two texts share, as the decontamination of language models counts them (Brown et al., 2020)."""

import re
import unicodedata

# Scripts without spaces: each character is a word.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


def words(text: str) -> list[str]:
    """Without case, signs and forms of letters: NFKC, case folded."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def phrases(text: str, n: int, min_words: int) -> list[str]:
    """Every run of `n` words; of a text of fewer words, but at least `min_words`, all of it as one that only an equal
    text has."""
    said = words(text)
    if len(said) >= n:
        return [" ".join(said[at : at + n]) for at in range(len(said) - n + 1)]
    return [" ".join(said)] if len(said) >= min_words else []
