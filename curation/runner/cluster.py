"""Where tasks run: on Ray, or in this process. Nothing else in the tree runs work.

A task is a function of curation/runner/tasks.py; what it returns is small, everything else goes through files.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from curation.runner.calls import Call, Node, done
from curation.runner.on_ray.place import OnRay
from curation.runner.on_ray.session import JoinedRay, imported_ray, joined_ray
from curation.runner.on_ray.starting import Starting, starting
from curation.settings import RaySettings
from pipeline.log import get_logger
from pipeline.signals import StopSignals

log = get_logger("curation")
SMALL_BYTES = 16 << 20


class Inline:
    """Runs every task here, one after the other: for small jobs and debugging."""

    def __init__(self, signals: StopSignals) -> None:
        self._job, self._signals = None, signals

    def give(self, job: Any) -> None:
        """What every task is given from now on."""
        self._job = job

    def run(self, calls: Iterable[Call], label: str = "") -> Iterator[tuple[Call, Any]]:
        for call in calls:
            self._signals.check("curate")
            yield call, done(call.function, self._job, *call.args)

    def ready(self, look: Callable[["Inline"], None]) -> None:
        """Has `look` called with the place before it is given its first task."""
        look(self)

    def nodes(self) -> list[Node]:
        return []

    def autoscales(self) -> bool:
        return False

    def is_shared(self) -> bool:
        return False

    def on_each_bare(self, nodes: Sequence[Node], function: Callable[[], Any]) -> Iterator[tuple[Node, Any]]:
        yield from ()

    def on_each(self, nodes: Sequence[Node], function: Callable[..., Any], *args: Any) -> Iterator[tuple[Node, Any]]:
        yield from ()


@contextmanager
def cluster(
    settings: RaySettings, signals: StopSignals, sizes: Sequence[int] | None = None, here: bool = True
) -> Iterator[Inline | OnRay | Starting]:
    """A place to run tasks; a Ray we started is gone at the end, one we joined is left as it was.

    `sizes`: bytes of each input. Where all together are small there need be no Ray; where each is, but all together are
    not, this process works itself until a Ray of our own has started, unless not `here`.
    """
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address is None:
        address = "local" if sizes is None or sum(sizes) > SMALL_BYTES else "inline"
        if address == "inline":
            log.debug("small inputs: without Ray (curate.ray.address=local starts it)")
    if address == "inline":
        yield Inline(signals)
        return
    ray = imported_ray(address)
    if ray.is_initialized():  # a notebook, or a test that shares one Ray
        yield OnRay(signals, JoinedRay(ray.get_runtime_context().gcs_address))
        return
    if address == "local":
        with starting(ray, settings, signals) as place:
            is_eager = here and not settings.runtime_env and sizes and max(sizes) <= SMALL_BYTES < sum(sizes)
            yield place if is_eager else place.there()
        return
    with ExitStack() as stack:
        try:
            session = stack.enter_context(joined_ray(ray, settings, address))
        except SystemExit:  # Ray's own handler, while it starts
            signals.received = signals.received or signal.SIGTERM
            signals.check("curate")
            raise
        signals.arm()
        signals.check("curate")
        yield OnRay(signals, session)
