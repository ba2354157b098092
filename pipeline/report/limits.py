"""How much of each thing the page shows, so that a pool of any size makes a page of bounded size.

Pictures are left off first (thumbs.Album), then less and less is shown of everything, until the words fit.
What is left off is said where it stands.
"""

from dataclasses import dataclass, fields

MAX_BYTES = 10_000_000
"""Of a page."""
MAX_WORDS = 6_000_000
"""Bytes of a page without its pictures."""


@dataclass(frozen=True)
class Limits:
    """steps: stages in the funnel and in tables; reasons: of a stage; problems: counts that do not add up; kept, tiles:
    pictures of the kept, of one reason or group; drops: reasons with pictures; copies: groups of one stage; stages:
    that show something of their own; groups: of one of them; sections, rows: tables of one stage, and their rows;
    changed: pairs with other captions; bars, entries, inputs: rows of those tables."""

    steps: int = 200
    reasons: int = 40
    problems: int = 40
    kept: int = 60
    tiles: int = 12
    drops: int = 80
    copies: int = 12
    stages: int = 100
    groups: int = 24
    sections: int = 8
    rows: int = 60
    changed: int = 12
    bars: int = 14
    entries: int = 40
    inputs: int = 40

    @property
    def are_less(self) -> bool:
        return self != Limits()

    def fewer(self) -> "Limits":
        return Limits(**{each.name: max(1, getattr(self, each.name) * 4 // 5) for each in fields(self)})
