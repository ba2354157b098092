"""The stage that ends a segment, and calls on its behalf."""

from collections.abc import Callable
from typing import Any, TypeVar

from curation.job import Job, Segment
from curation.runner.calls import Call
from curation.stage import Stage


def number_of(here: Segment) -> int:
    """Its number in the recipe."""
    assert here.closer is not None  # only segments that are closed are asked
    return here.closer


S = TypeVar("S", bound=Stage)


def closer_of(job: Job, here: Segment, sort: type[S]) -> S:
    stage = job.stage(number_of(here))
    assert isinstance(stage, sort)
    return stage


def call_for(job: Job, here: Segment, function: Callable[..., Any], args: tuple[Any, ...], where: str) -> Call:
    """function(job, number of the segment, *args), with what its placement asks for."""
    asks = job.placement(job.stage(number_of(here)))
    return Call(function, (here.index, *args), f"stage {where}", asks.cpus, asks.gpus, asks.memory)
