"""A Ray of our own while it starts: two seconds in which this process does small tasks itself.

Ray's servers are children of the thread that started them and die with it (PR_SET_PDEATHSIG), so one thread starts the
session, keeps it and ends it.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from curation.runner.calls import Call, done
from curation.runner.on_ray.place import OnRay
from curation.runner.on_ray.session import OwnRay, own_ray, usable_cpus
from curation.settings import RaySettings
from pipeline.signals import StopSignals

_LOOK_S = 0.2  # how soon a request to stop is seen while nothing can be done but wait


class Starting:
    """Runs tasks on a Ray that another thread is starting; until it is there, one after the other in this process."""

    def __init__(self, ray: Any, settings: RaySettings, signals: StopSignals) -> None:
        self._ray, self._settings, self._signals = ray, settings, signals
        self._session: OwnRay | None = None
        self._fault: BaseException | None = None
        self._there, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ray", daemon=True)
        self._place: OnRay | None = None
        self._job: Any = None
        self._before: list[Callable[[OnRay], None]] = []

    def _keep(self) -> None:
        logging.getLogger("ray._private.worker").addFilter(_says_more)
        warm = self._ray.remote(num_cpus=1)(_warm)
        try:
            with own_ray(self._ray, self._settings) as self._session:
                loading = [warm.remote() for _ in range(self._settings.num_cpus or usable_cpus())]
                self._there.set()
                self._over.wait()
                del loading
        except BaseException as fault:
            self._fault = fault
        finally:
            self._there.set()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Waits for the start to end, and for the end: nothing is left of it."""
        self._over.set()
        self._thread.join()

    def give(self, job: Any) -> None:
        """What every task is given from now on."""
        self._job = job
        if self._place is not None:
            self._place.give(job)

    def ready(self, look: Callable[[OnRay], None]) -> None:
        """Has `look` called with the place on Ray before that is given its first task."""
        self._before.append(look)

    def run(self, calls: Iterable[Call], label: str = "") -> Iterator[tuple[Call, Any]]:
        """(call, result) in the order of completion. Raises the first error; what runs then is cancelled."""
        rest = list(calls)
        while rest and not self._there.is_set() and rest[0].its_pool is None:
            self._signals.check("curate")
            call = rest.pop(0)
            yield call, done(call.function, self._job, *call.args)
        if rest:
            yield from self.there().run(rest, label)

    def there(self) -> OnRay:
        """The place on Ray, once it is there. Raises what kept it from starting."""
        if self._place is None:
            while not self._there.wait(_LOOK_S):
                self._signals.check("curate")
            if self._session is None:
                raise self._fault or RuntimeError("no Ray")
            self._place = OnRay(self._signals, self._session)
            self._place.give(self._job)
            for look in self._before:
                look(self._place)
        return self._place


@contextmanager
def starting(ray: Any, settings: RaySettings, signals: StopSignals) -> Iterator[Starting]:
    """A Ray of our own on its way; at the end nothing of it is left."""
    place = Starting(ray, settings, signals)
    place.start()
    try:
        yield place
    finally:
        place.close()


def _says_more(record: logging.LogRecord) -> bool:
    """That this thread takes no signals is as it should be."""
    return "SIGTERM handler is not set" not in record.getMessage()


def _warm() -> None:
    """Loads in a worker what its first task would load."""
    import curation.runner.tasks  # noqa: F401
