"""What an answer is held against."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from curation.generation.request import Answer


class Asked(NamedTuple):
    """data: the texts that went into the prompt; said: the prompt without them; targets: answers of its examples, as
    words; language: an ISO code or ""; edited: the caption that the answer is to be an edit of, None where it is none.
    """

    data: Sequence[str]
    said: str
    targets: frozenset[str]
    language: str
    edited: str | None = None


Check = Callable[[str, Answer, Asked], bool]
"""The plain text, the answer as it came, what was asked -> whether it fails."""
Detect = Callable[[str], Mapping[str, float]]
"""A text -> ISO codes of the languages that it may be in, and how likely each is."""
