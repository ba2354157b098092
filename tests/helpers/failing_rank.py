"""A real rank of a real run, of which one raises by itself at one place of one step."""

import sys
from typing import Any

from pipeline.errors import DataError
from pipeline.recipe import Recipe
from pipeline.signals import StopSignals
from training.launch import rank

STEP = 3
_honest = rank._work


def _plant(phase: str, peers: Any) -> None:
    """Makes this rank raise in `phase` of step STEP."""
    from training.engine import plain, zero
    from training.reader import reader
    from training.step import objective

    def before(owner: Any, name: str, error: Exception | None = None) -> None:
        honest = getattr(owner, name)

        def broken(*given: Any, **named: Any) -> Any:
            if peers.place.step == STEP:
                raise error or RuntimeError("planted")
            return honest(*given, **named)

        setattr(owner, name, broken)

    engine = zero.DeepSpeedEngine if phase.endswith("-zero") else plain.PlainEngine
    match phase.removesuffix("-zero"):
        case "reader":
            before(reader.Reader, "_account", DataError("shard-000007.tar", "is cut", "a whole shard"))
        case "forward":
            before(engine, "forward")
        case "loss":
            before(objective.Objective, "of_step")
        case "backward":
            before(engine, "backward")
        case "optimizer":
            before(engine, "step")


def work(command: str, recipe: Recipe, peers: Any, stop: StopSignals) -> None:
    phase, who = recipe.data["name"].split()
    if peers.rank == int(who):
        _plant(phase, peers)
    _honest(command, recipe, peers, stop)


if __name__ == "__main__":
    rank._work = work
    sys.exit(rank.main())
