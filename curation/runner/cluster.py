"""Where tasks run: on Ray, or in this process. Nothing else in the tree runs work.

A task is a function of curation/runner/tasks.py; what it returns is small, everything else goes through files.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from curation.runner.preflight import Node
from curation.runner.ray_session import JoinedRay, OwnRay, imported_ray, joined_ray, line_of, may_grow, own_ray
from curation.settings import RaySettings
from pipeline.errors import ClipmillError, StorageError
from pipeline.log import get_logger
from pipeline.signals import StopSignals

log = get_logger("curation")
_POLL_S = 0.5  # how soon a request to stop, or a dead Ray, is seen
_ANSWER_S = 120.0  # for a worker to start on a busy node


@dataclass(frozen=True)
class Call:
    """One task: function(job, *args); `where` names it in errors."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    where: str
    cpus: float = 1.0
    gpus: float = 0.0


Do = Callable[[list[Call], str, str], Iterator[tuple[Call, Any]]]
"""Runs calls under a label (without one in silence), counting units; gives results as they come."""


class Inline:
    """Runs every task here, one after the other: for debugging and small tests."""

    def __init__(self, signals: StopSignals) -> None:
        self._job, self._signals = None, signals

    def give(self, job: Any) -> None:
        """What every task is given from now on."""
        self._job = job

    def run(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Any]]:
        for call in calls:
            self._signals.check("curate")
            yield call, call.function(self._job, *call.args)

    def nodes(self) -> list[Node]:
        return []

    def autoscales(self) -> bool:
        return False

    def on_each(self, nodes: Sequence[Node], function: Callable[..., Any], *args: Any) -> Iterator[tuple[Node, Any]]:
        yield from ()


class OnRay:
    """Runs tasks on Ray, a bounded number in flight; yields results as they come."""

    def __init__(self, signals: StopSignals, session: OwnRay | JoinedRay) -> None:
        import ray

        self._ray, self._signals, self._session = ray, signals, session
        self._job: Any = None
        # max_calls=0: Ray would else end a GPU worker after each task, and with it the loaded model.
        self._task = ray.remote(max_retries=3, max_calls=0)(_guarded)

    def give(self, job: Any) -> None:
        """What every task is given from now on: shipped once, not with each task."""
        self._job = self._ray.put(job)

    def run(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Any]]:
        """(call, result) in the order of completion. Raises the first error; what runs then is cancelled."""
        waiting = deque(calls)
        flying: dict[Any, Call] = {}
        self._session.check()
        most = 2 + 2 * int(self._ray.cluster_resources().get("CPU", 1))
        try:
            while waiting or flying:
                while waiting and len(flying) < most:
                    call = waiting.popleft()
                    options = self._task.options(num_cpus=call.cpus, num_gpus=call.gpus, name=call.where[:60])
                    flying[options.remote(call.function, self._job, *call.args)] = call
                done, _ = self._ray.wait(list(flying), num_returns=1, timeout=_POLL_S)
                self._signals.check("curate")
                self._session.check()
                for ref in done:
                    call = flying.pop(ref)
                    yield call, self._get(ref, call)
        finally:
            self._cancel(flying)

    def nodes(self) -> list[Node]:
        """The living nodes, by name."""
        self._session.check()
        found = []
        for node in self._ray.nodes():
            if node["Alive"]:
                has, name = node["Resources"], f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                found.append(Node(node["NodeID"], name, has.get("CPU", 0.0), has.get("GPU", 0.0)))
        return sorted(found, key=lambda node: (node.name, node.id))

    def autoscales(self) -> bool:
        """Whether nodes may come by themselves. True when Ray does not say, so that nothing is refused for it."""
        if isinstance(self._session, OwnRay):
            return False
        try:
            return bool(self._ray.get(self._ray.remote(num_cpus=0)(may_grow).remote(), timeout=_ANSWER_S))
        except Exception as error:
            log.debug("Ray does not say whether the cluster grows: %s", line_of(error))
            return True

    def on_each(self, nodes: Sequence[Node], function: Callable[..., Any], *args: Any) -> Iterator[tuple[Node, Any]]:
        """(node, function(job, node id, *args) run on it), all at a time."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as on

        flying = {}
        for node in nodes:
            options = self._task.options(num_cpus=0, scheduling_strategy=on(node.id, soft=False), name="preflight")
            flying[options.remote(function, self._job, node.id, *args)] = node
        end = time.monotonic() + _ANSWER_S
        try:
            while flying:
                done, _ = self._ray.wait(list(flying), num_returns=1, timeout=_POLL_S)
                self._signals.check("curate")
                self._session.check()
                for ref in done:
                    node = flying.pop(ref)
                    yield node, self._get(ref, Call(function, args, f"node {node.name}"))
                if flying and time.monotonic() > end:
                    silent = ", ".join(node.name for node in flying.values())
                    hint = "see that clipmill and Ray work there, or take it out of the cluster"
                    raise ClipmillError(f"node {silent}", f"no answer in {_ANSWER_S:.0f} s", "a node that works", hint)
        finally:
            self._cancel(flying)

    def _cancel(self, flying: Iterable[Any]) -> None:
        with suppress(Exception):
            self._session.check()  # the dead take no requests
            for ref in flying:
                self._ray.cancel(ref, force=True)

    def _get(self, ref: Any, call: Call) -> Any:
        faults = self._ray.exceptions
        try:
            result, error = self._ray.get(ref)
        except (faults.LocalRayletDiedError, faults.NodeDiedError, faults.RpcError) as fault:
            raise self._session.lost(line_of(fault)) from None
        except (faults.OutOfMemoryError, faults.WorkerCrashedError) as fault:
            self._session.check()
            hint = "use more `curate.buckets`, a smaller placement.<kind>.batch or fewer `curate.ray.num_cpus`"
            found = f"its process died four times: {line_of(fault)}"
            raise ClipmillError(call.where, found, "enough memory", hint) from None
        except faults.RayError as fault:
            self._session.check()
            hint = "run the same command to go on: what is done is kept"
            raise ClipmillError(call.where, f"Ray could not run it: {line_of(fault)}", "", hint) from None
        if error is not None:
            raise error
        return result


def _guarded(function: Callable[..., Any], job: Any, *args: Any) -> tuple[Any, Exception | None]:
    """Errors are values: ours arrive as they left, without Ray's wrapping."""
    try:
        return function(job, *args), None
    except ClipmillError as error:
        error.__cause__ = error.__context__ = None  # may hold what cannot be pickled
        return None, error
    except OSError as error:
        return None, StorageError(str(error.filename or function.__name__), line_of(error))
    except Exception as error:
        return None, ClipmillError(function.__name__, f"{type(error).__name__}: {line_of(error)}")


@contextmanager
def cluster(settings: RaySettings, signals: StopSignals) -> Iterator[Inline | OnRay]:
    """A place to run tasks; a Ray we started is gone at the end, one we joined is left as it was."""
    address = settings.address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "inline":
        yield Inline(signals)
        return
    ray = imported_ray(address)
    if ray.is_initialized():  # a notebook, or a test that shares one Ray
        yield OnRay(signals, JoinedRay(ray.get_runtime_context().gcs_address))
        return
    with ExitStack() as stack:
        try:
            opened: Any = own_ray(ray, settings) if address == "local" else joined_ray(ray, address)
            session = stack.enter_context(opened)
        except SystemExit:  # Ray's own handler, while it starts
            signals.received = signals.received or signal.SIGTERM
            signals.check("curate")
            raise
        signals.arm()
        signals.check("curate")
        yield OnRay(signals, session)
