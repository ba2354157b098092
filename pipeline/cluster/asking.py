"""What a run is going to cost, shown before it is handed to a scheduler; a person at a terminal is asked."""

import sys

from rich.console import Console

from pipeline import jobs
from pipeline.cluster.schedulers import Request
from pipeline.errors import ClipmillError, UsageError
from pipeline.plan.devices import cluster_of
from pipeline.plan.table import rendered
from pipeline.recipe import Recipe

_WHOLE = 8  # GPUs of a node that is asked for whole


def agreed(recipe: Recipe, request: Request, device: str | None, yes: bool) -> None:
    """Returns when the run may be handed over; ends with UsageError when the person says no.

    `device`: as `clipmill plan --device`; None: h100, or cpu where no GPUs are asked for. Without a terminal, or with
    `yes`, nobody is asked: a script has said what it wants. What cannot be foretold is no reason to hold a run back.
    """
    gpus = _WHOLE if request.gpus_per_node is None else request.gpus_per_node
    console = Console(stderr=True)
    try:
        cluster = cluster_of(device or ("h100" if gpus else "cpu"), request.nodes, max(gpus, 1))
        for part in rendered(jobs.plan(recipe, cluster)):
            console.print(part, markup=False, soft_wrap=isinstance(part, str), highlight=False)
    except UsageError:  # a device that is none
        raise
    except ClipmillError as error:
        console.print(f"what it costs cannot be foretold: {error}", markup=False, highlight=False)
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    console.print("submit it? [y/N] ", end="", markup=False, highlight=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("submit", "was not agreed to", "y", "clipmill submit ... --yes asks nothing")
