"""Counts that add up, and how packs are read that may be merged first."""

from typing import NamedTuple

from curation.runner import exchange


class Cost(NamedTuple):
    """tasks: run; files: published; packs: opened, for two reads each; tables: opened; images: read; kept: pieces of a
    Reduce opened (at most), mapped into memory where the folder is local, else read whole."""

    tasks: int = 0
    files: int = 0
    packs: int = 0
    tables: int = 0
    images: int = 0
    kept: int = 0

    def __add__(self, other: tuple) -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def times(self, number: int) -> "Cost":
        return Cost(*(each * number for each in self))

    @property
    def reads(self) -> int:
        return 2 * self.packs + self.tables + self.images + self.kept


def in_groups(number: int, size: int) -> int:
    return -(-number // size)


def sources(number: int) -> int:
    """Packs that are read of one exchange between so many."""
    return len(exchange.groups_of(number)) or number


def merged(number: int, most: int | None = None) -> Cost:
    """Packs merged in groups, each read in one run of slots; nothing when they are few."""
    groups = len(exchange.groups_of(number, most))
    return Cost(groups, 2 * groups, number if groups else 0)


def told_by(runs: int) -> int:
    """Packs that every bucket reads of so many runs."""
    return len(exchange.groups_of(runs, exchange.READ)) or runs
