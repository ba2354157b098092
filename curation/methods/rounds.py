"""The rounds of a Reduce, as far as they cost: what is said of a recipe before a run."""

from typing import NamedTuple

from curation.stage import Reduce


class Round(NamedTuple):
    """pieces: in how many it comes, 0: a plain one; asks: whether it is over all pairs."""

    pieces: int = 0
    asks: bool = True


def rounds_of(stage: Reduce, pairs: int) -> tuple[Round, ...]:
    """About those that so many pairs take: as the stage itself says by a method of this name, else one."""
    said = getattr(stage, "rounds_of", None)
    return (Round(),) if said is None else said(pairs)
