"""What robots headers and metas say, as one text of bounded length, and how such a text is read.

A page's text stands in the row of every image it mentions: without a bound, 60 KB of headers on pages of 2,000 images
cost gigabytes. What is cut can only be what no stage reads.
"""

import re
from collections.abc import Iterable

TOKENS = ("noai", "noimageai", "none", "noindex", "noimageindex")  # that a stage may obey
MAX_CHARS = 1000

# Directives with a value of their own, which is not a token: `max-image-preview: none` forbids a preview, not the use.
_VALUED = re.compile(r"max-(?:snippet|image-preview|video-preview)\s*:\s*[^\s,;]*")
_WORD = re.compile(r"[a-z][a-z0-9_-]*")
_RESERVATION = "tdm-reservation"


def words(text: str) -> set[str]:
    """The words that count: wherever they stand, in any case, behind a robot's name or another directive."""
    return set(_WORD.findall(_VALUED.sub(" ", text.lower())))


def joined(values: Iterable[str], sort: bool = False) -> tuple[str, int]:
    """Robots values as one text, each once, and how many directives were cut off it (the text says so too).

    Values with a colon may name one robot and speak for what follows them, so they go last. A text longer than
    MAX_CHARS is the tokens said anywhere in it, then as many of its directives as have room.
    """
    distinct = dict.fromkeys(values)
    ordered = sorted(distinct) if sort else distinct
    whole = ", ".join(sorted(ordered, key=lambda value: ":" in value))
    return (whole, 0) if len(whole) <= MAX_CHARS else _cut(whole)


def _cut(whole: str) -> tuple[str, int]:
    heard = words(whole)
    kept = [token for token in TOKENS if token in heard]
    left = {" ".join(piece.split()): None for piece in whole.split(",")}
    rest = sorted((piece for piece in left if piece and piece not in kept), key=lambda piece: _RESERVATION not in piece)
    room, cut = MAX_CHARS - sum(map(len, kept)) - 2 * len(kept) - 40, 0
    for piece in rest:
        if len(piece) + 2 <= room:
            kept.append(piece)
            room -= len(piece) + 2
        else:
            cut += 1
    return ", ".join([*kept, f"and {cut} more"]) if cut else ", ".join(kept), cut
