"""Tasks in processes of this machine, one for each CPU: what Ray would do, without the seconds of its start and end."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from curation.runner.calls import MOST_DEATHS, Call, Unit
from curation.runner.on_machine.inline import Inline
from curation.runner.on_machine.nursery import Nursery, may_fork
from pipeline.errors import ClipmillError
from pipeline.signals import StopSignals

_POLL_S = 0.5  # how soon a request to stop is seen


@dataclass(eq=False)
class _Worker:
    """`pid` 0 until it has said hello; `told`: which job it was given last; `unit`: what it is at."""

    line: Connection
    pid: int = 0
    told: int = 0
    unit: Unit | None = None


class OnProcesses(Inline):
    """Runs calls in `count` processes; until the first is there, one after the other in this one. Not later: what
    others have died of is not for this one. `is_ours`: this process is a command of ours, and nothing else."""

    def __init__(self, signals: StopSignals, count: int, is_ours: bool = False) -> None:
        super().__init__(signals)
        self._count, self._is_ours, self._given = count, is_ours, 0
        self._nursery: Nursery | None = None
        self._workers: list[_Worker] = []
        self._is_alone, self._failed_starts = True, 0

    def start(self) -> None:
        """Asks for the workers that are missing, which come in their time."""
        while len(self._workers) < self._count:
            try:
                self._nursery = self._nursery or Nursery(self._is_ours and may_fork())
                self._workers.append(_Worker(self._nursery.worker()))
            except OSError:  # there is no room for it, or it is dead, and all its workers with it
                self._failed()
                if self._nursery is not None:
                    self._nursery.close(has_workers=True)
                self._nursery = None

    def close(self) -> None:
        """Nothing runs on."""
        if self._nursery is not None:
            self._nursery.close(has_workers=any(worker.pid for worker in self._workers))
        for worker in self._workers:
            worker.line.close()
        self._workers.clear()
        self._nursery = None

    def give(self, job: Any) -> None:
        super().give(job)
        self._given += 1

    def run(self, calls: Iterable[Call], label: str = "") -> Iterator[tuple[Call, Any]]:
        """(call, result) in the order of completion. Raises the first error; what runs then is cancelled.

        What is for a pool of its own runs in this process: models are loaded once, and who asks a server hears a stop.
        """
        calls = list(calls)
        yield from super().run([call for call in calls if call.its_pool is not None], label)
        waiting = deque(Unit(call) for call in calls if call.its_pool is None)
        try:
            while waiting or self._is_busy():
                self._signals.check("curate")
                self.start()
                self._hand_out(waiting)
                works = self._is_alone and bool(waiting)
                talking = wait([worker.line for worker in self._workers], 0 if works else _POLL_S)
                for worker in [each for each in self._workers if each.line in talking]:
                    yield from self._heard(worker, waiting)
                if self._is_alone and waiting:
                    yield from super().run([waiting.popleft().call])
        finally:
            if self._is_busy():
                self.close()

    def _is_busy(self) -> bool:
        return any(worker.unit is not None for worker in self._workers)

    def _hand_out(self, waiting: deque[Unit]) -> None:
        for worker in self._workers:
            if waiting and worker.pid and worker.unit is None:
                worker.unit = waiting.popleft()
                with suppress(OSError):  # it is dead: that is heard next
                    if worker.told != self._given:
                        worker.line.send((None, self._job))
                        worker.told = self._given
                    worker.line.send((worker.unit.call.function, worker.unit.call.args))

    def _heard(self, worker: _Worker, waiting: deque[Unit]) -> Iterator[tuple[Call, Any]]:
        """What a worker says: hello, what its call came to, or nothing any more."""
        try:
            said = worker.line.recv()
        except (EOFError, OSError):
            self._buried(worker, waiting)
            return
        if worker.unit is None:
            worker.pid, self._failed_starts, self._is_alone = said, 0, False
            return
        unit, worker.unit = worker.unit, None
        result, error = said
        if error is not None:
            raise error
        yield unit.call, result

    def _buried(self, worker: _Worker, waiting: deque[Unit]) -> None:
        """Its call is run again, behind the others: memory may be free by then."""
        self._workers.remove(worker)
        worker.line.close()
        if worker.unit is not None:
            worker.unit.died("it was killed, or ended by itself")
            waiting.append(worker.unit)
        elif not worker.pid:
            self._failed()

    def _failed(self) -> None:
        """ClipmillError where processes do not start, again and again."""
        self._failed_starts += 1
        if self._failed_starts >= MOST_DEATHS:
            said = self._nursery.said() if self._nursery is not None else ""
            found = f"no process started for tasks, four times{f': {said}' if said else ''}"
            hint = "free memory or processes (`ulimit -u`), or do with one: curate.ray.address=inline"
            raise ClipmillError("curate.ray.address", found, "processes", hint)
