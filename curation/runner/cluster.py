"""Where tasks run: on Ray, in processes of this machine, or in this one. Nothing else in the tree runs work.

A task is a function of curation/runner/tasks.py; what it returns is small, everything else goes through files.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from curation.runner.on_machine.inline import Inline
from curation.runner.on_machine.processes import OnProcesses
from curation.runner.on_ray.place import OnRay
from curation.runner.on_ray.session import JoinedRay, imported_ray, is_joined, joined_ray, usable_cpus
from curation.runner.on_ray.starting import Starting, starting
from curation.settings import RaySettings
from pipeline.log import get_logger
from pipeline.signals import StopSignals

log = get_logger("curation")
SMALL_BYTES = 8 << 20  # what one process has done when others could have begun
LARGE_BYTES = 512 << 20  # minutes of work, to which the seconds of Ray's start and end add nothing


@contextmanager
def cluster(
    settings: RaySettings,
    signals: StopSignals,
    sizes: Sequence[int] | None = None,
    needs_ray: bool = False,
    downloads: bool = False,
    is_ours: bool = False,
) -> Iterator[Inline | OnRay | Starting]:
    """A place to run tasks; a Ray we started is gone at the end, one we joined is left as it was.

    `sizes`: bytes of each input. `needs_ray`: tasks ask for devices, memory or pools of processes, which Ray gives;
    `downloads`: inputs name what is much larger than they are. `is_ours`: this process is a command of ours.

    Where each input is small, but all together are not, this process works itself until a Ray of our own has started.
    """
    cpus = settings.num_cpus or usable_cpus()
    on_ray = needs_ray or is_joined()
    fitting = "local" if settings.runtime_env is not None else _fitting(sizes, cpus, on_ray, downloads)
    address = settings.address or os.environ.get("RAY_ADDRESS") or fitting
    log.debug("tasks run at curate.ray.address=%s", address)
    if address == "inline":
        yield Inline(signals)
        return
    if address == "processes":
        with closing(OnProcesses(signals, cpus, is_ours)) as place:
            place.start()
            yield place
        return
    ray = imported_ray(address)
    if is_joined():
        yield OnRay(signals, JoinedRay(ray.get_runtime_context().gcs_address))
        return
    if address == "local":
        with starting(ray, settings, signals) as place:
            is_eager = sizes and not needs_ray and not settings.runtime_env and max(sizes) <= SMALL_BYTES < sum(sizes)
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


def _fitting(sizes: Sequence[int] | None, cpus: int, on_ray: bool, downloads: bool) -> str:
    """Where work runs for which nobody has said it; `on_ray`: not in processes of ours."""
    whole = LARGE_BYTES + 1 if sizes is None else sum(sizes)
    if whole <= SMALL_BYTES and not downloads:
        return "inline"
    if whole > LARGE_BYTES or on_ray:
        return "local"
    return "processes" if cpus > 1 else "inline"
