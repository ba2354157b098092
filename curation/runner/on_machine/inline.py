"""Tasks in this process, one after the other: for small jobs and debugging."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from curation.runner.calls import Call, Node, done
from pipeline.signals import StopSignals


class Inline:
    """Runs every task as it is asked for. There is one machine, which gives what it has to whoever asks."""

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
