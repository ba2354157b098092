"""Tasks on Ray: a bounded number in flight, results as they come, in batches."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from curation.runner.calls import Call, Node, Pool, guarded, line_of
from curation.runner.on_ray.actor_pool import ActorPool
from curation.runner.on_ray.lanes import Ground, Lane, Tasks
from curation.runner.on_ray.session import JoinedRay, OwnRay, may_grow
from pipeline.errors import ClipmillError
from pipeline.log import get_logger
from pipeline.signals import StopSignals

log = get_logger("curation")
_POLL_S = 0.5  # how soon a request to stop, or a dead Ray, is seen
_ANSWER_S = 120.0  # for a worker to start on a busy node


class OnRay:
    """Runs tasks on Ray, a bounded number in flight; yields results as they come."""

    def __init__(self, signals: StopSignals, session: OwnRay | JoinedRay) -> None:
        import ray

        self._ray, self._signals, self._session = ray, signals, session
        self._ground = Ground(ray, session, self.nodes)
        self._grows: bool | None = None

    def give(self, job: Any) -> None:
        """What every task is given from now on: shipped once, not with each task."""
        self._ground.job = self._ray.put(job)

    def ready(self, look: Callable[["OnRay"], None]) -> None:
        """Has `look` called with the place before it is given its first task."""
        look(self)

    def run(self, calls: Iterable[Call], label: str = "") -> Iterator[tuple[Call, Any]]:
        """(call, result) in the order of completion; `label` names them in Ray's dashboard. Raises the first error;
        what runs then is cancelled."""
        lanes = self._lanes(calls, label)
        flying: dict[Any, Lane] = {}
        self._session.check()
        try:
            while any(lane.is_busy() for lane in lanes):
                for lane in lanes:
                    flying.update(dict.fromkeys(lane.submit(), lane))
                ready = self._ready(list(flying))
                self._signals.check("curate")
                self._session.check()
                for ref in ready:
                    yield from flying.pop(ref).take(ref)
        finally:
            self._close(lanes)

    def _lanes(self, calls: Iterable[Call], label: str) -> list[Lane]:
        """Plain tasks, and each pool's."""
        plain: list[Call] = []
        by_pool: dict[Pool, list[Call]] = {}
        for call in calls:
            (by_pool.setdefault(pool, []) if (pool := call.its_pool) else plain).append(call)
        pools = [ActorPool(self._ground, pool, each, label, self.autoscales) for pool, each in by_pool.items()]
        return [Tasks(self._ground, plain, label), *pools]

    def _ready(self, refs: list[Any]) -> list[Any]:
        """All that are ready, as soon as one is; none when nothing happens for a moment."""
        ready, rest = self._ray.wait(refs, num_returns=1, timeout=_POLL_S)
        if ready and rest:
            more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0)
            ready = [*ready, *more]
        return ready

    def _close(self, lanes: Sequence[Lane]) -> None:
        with suppress(Exception):
            self._session.check()  # the dead take no requests
            for lane in lanes:
                lane.close()

    def nodes(self) -> list[Node]:
        """The living nodes, by name."""
        self._session.check()
        found = []
        for node in self._ray.nodes():
            if node["Alive"]:
                has, name = node["Resources"], f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                memory = int(has.get("memory", 0))
                found.append(Node(node["NodeID"], name, has.get("CPU", 0.0), has.get("GPU", 0.0), memory))
        return sorted(found, key=lambda node: (node.name, node.id))

    def autoscales(self) -> bool:
        """Whether nodes may come by themselves. True when Ray does not say, so that nothing is refused for it."""
        if self._grows is None:
            self._grows = not isinstance(self._session, OwnRay) and self._may_grow()
        return self._grows

    def _may_grow(self) -> bool:
        try:
            return bool(self._ray.get(self._ray.remote(num_cpus=0)(may_grow).remote(), timeout=_ANSWER_S))
        except Exception as error:
            log.debug("Ray does not say whether the cluster grows: %s", line_of(error))
            return True

    def is_shared(self) -> bool:
        """Whether other machines, set up by somebody, belong to it."""
        return not isinstance(self._session, OwnRay)

    def on_each_bare(self, nodes: Sequence[Node], function: Callable[[], Any]) -> Iterator[tuple[Node, Any]]:
        """(node, function() run on it); nothing of clipmill need be there when the function needs nothing of it."""
        for node, ref in self._answers(nodes, self._ray.remote(max_retries=3, num_cpus=0)(function), lambda node: ()):
            yield node, self._answer(ref, node)

    def on_each(self, nodes: Sequence[Node], function: Callable[..., Any], *args: Any) -> Iterator[tuple[Node, Any]]:
        """(node, function(job, node id, *args) run on it), all at a time."""
        task = self._ray.remote(max_retries=3, num_cpus=0)(guarded)
        for node, ref in self._answers(nodes, task, lambda node: (function, self._ground.job, node.id, *args)):
            result, error = self._answer(ref, node)
            if error is not None:
                raise error
            yield node, result

    def _answers(
        self, nodes: Sequence[Node], task: Any, args: Callable[[Node], tuple[Any, ...]]
    ) -> Iterator[tuple[Node, Any]]:
        """(node, reference to what the task returned there), as they come."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as on

        flying = {}
        for node in nodes:
            options = task.options(scheduling_strategy=on(node.id, soft=False), name="preflight")
            flying[options.remote(*args(node))] = node
        end = time.monotonic() + _ANSWER_S
        try:
            while flying:
                ready = self._ready(list(flying))
                self._signals.check("curate")
                self._session.check()
                for ref in ready:
                    node = flying.pop(ref)
                    yield node, ref
                if flying and time.monotonic() > end:
                    silent = ", ".join(node.name for node in flying.values())
                    hint = "see that clipmill and Ray work there, or take it out of the cluster"
                    raise ClipmillError(f"node {silent}", f"no answer in {_ANSWER_S:.0f} s", "a node that works", hint)
        finally:
            with suppress(Exception):
                for ref in flying:
                    self._ray.cancel(ref, force=True)

    def _answer(self, ref: Any, node: Node) -> Any:
        try:
            return self._ground.got(ref, f"node {node.name}")
        except self._ground.deaths as fault:
            hint = "take it out of the cluster, or run the same command again"
            raise ClipmillError(f"node {node.name}", f"it died: {line_of(fault)}", "a node that works", hint) from None
