"""Calls on their way through Ray: how many are in flight, and what becomes of them when a process or a node dies.

Ray itself retries nothing: it would count the loss of a node against a task, which is no fault of it. A call whose own
process died four times (memory, a crash) is an error that names it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from curation.runner.calls import Call, Node, Unit, guarded, line_of
from curation.runner.on_ray.session import JoinedRay, OwnRay
from pipeline.errors import ClipmillError
from pipeline.log import get_logger

log = get_logger("curation")
_LOOK_S = 5.0  # nodes come and go


class Ground:
    """What the lanes of a run stand on: Ray, the session, the job, and the nodes as they were a moment ago."""

    def __init__(self, ray: Any, session: OwnRay | JoinedRay, nodes: Callable[[], list[Node]]) -> None:
        self.ray, self.session = ray, session
        self.job: Any = None
        self._list, self._nodes, self._looked = nodes, list[Node](), -_LOOK_S

    def nodes(self) -> list[Node]:
        if time.monotonic() - self._looked >= _LOOK_S:
            before, self._nodes, self._looked = self._nodes, self._list(), time.monotonic()
            ids = {node.id for node in self._nodes}
            for node in before:
                if node.id not in ids:
                    log.warning("node %s is gone; what ran there is run again, on %d nodes", node.name, len(ids))
        return self._nodes

    def has_lost(self, node: str | None) -> bool:
        return node is not None and all(each.id != node for each in self._list())

    def value(self, ref: Any, where: str) -> Any:
        """What a guarded function returned, or its error raised."""
        result, error = self.got(ref, where)
        if error is not None:
            raise error
        return result

    def got(self, ref: Any, where: str) -> Any:
        """What a function returned. `deaths` pass; anything else of Ray's ends the run."""
        faults = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except self.deaths:
            self.session.check()
            raise
        except (faults.LocalRayletDiedError, faults.RpcError) as fault:
            raise self.session.lost(line_of(fault)) from None
        except faults.RayError as fault:
            self.session.check()
            hint = "run the same command to go on: what is done is kept"
            raise ClipmillError(where, f"Ray could not run it: {line_of(fault)}", "", hint) from None

    @property
    def deaths(self) -> tuple[type[Exception], ...]:
        """How Ray says that a process or a node is gone."""
        faults = self.ray.exceptions
        return faults.OutOfMemoryError, faults.WorkerCrashedError, faults.NodeDiedError, faults.RayActorError


class Lane(Protocol):
    """Calls that are fed to Ray in one way."""

    def submit(self) -> list[Any]:
        """Starts as much as fits; returns what to wait for."""
        ...

    def take(self, ref: Any) -> Iterator[tuple[Call, Any]]:
        """What a ready reference brings: mostly one result; none when it must be run again."""
        ...

    def is_busy(self) -> bool: ...

    def close(self) -> None:
        """Nothing of it runs on."""
        ...


class Tasks:
    """Calls that may run in any process: twice as many in flight as the CPUs of the cluster can run at a time."""

    def __init__(self, ground: Ground, calls: list[Call], label: str) -> None:
        self._ground, self._label = ground, label
        self._waiting = deque(Unit(call) for call in calls)
        self._flying: dict[Any, Unit] = {}
        # max_calls=0: Ray would else end some workers after each task, and with them what they have loaded.
        self._task = ground.ray.remote(max_retries=0, max_calls=0)(guarded)

    def submit(self) -> list[Any]:
        cpus, started = sum(node.cpus for node in self._ground.nodes()), []
        while self._waiting and len(self._flying) < 2 + int(2 * cpus / (self._waiting[0].call.cpus or 1)):
            unit = self._waiting.popleft()
            call = unit.call
            name = self._label or call.function.__name__  # one name for all: Ray's dashboard counts them under it
            options = self._task.options(num_cpus=call.cpus, memory=call.memory or None, name=name)
            ref = options.remote(call.function, self._ground.job, *call.args)
            self._flying[ref] = unit
            started.append(ref)
        return started

    def take(self, ref: Any) -> Iterator[tuple[Call, Any]]:
        unit = self._flying.pop(ref)
        try:
            result = self._ground.value(ref, unit.call.where)
        except self._ground.deaths as fault:
            if not isinstance(fault, self._ground.ray.exceptions.NodeDiedError):
                unit.died(line_of(fault))
            self._waiting.append(unit)  # behind the others: memory may be free by then
        else:
            yield unit.call, result

    def is_busy(self) -> bool:
        return bool(self._waiting or self._flying)

    def close(self) -> None:
        for ref in self._flying:
            self._ground.ray.cancel(ref, force=True)
