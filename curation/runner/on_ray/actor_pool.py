"""A pool of Ray actors that own their devices.

A process is leased its GPU once, loads its model once, and ends with the phase, so that no GPU holds what is of no use.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from curation.runner.calls import Call, Node, Pool, Unit, guarded, line_of
from curation.runner.on_ray.lanes import Ground
from pipeline.errors import ClipmillError
from pipeline.log import get_logger

log = get_logger("curation")
_AHEAD = 2  # calls in flight per actor: the next one is there when one ends, and no more wait in its queue
_MOST_FAILED_STARTS = 4


class Worker:
    """In the process of an actor."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def node(self) -> tuple[str, None]:
        import ray

        return ray.get_runtime_context().get_node_id(), None

    def run(self, function: Callable[..., Any], *args: Any) -> tuple[Any, Exception | None]:
        return guarded(function, self._job, *args)


@dataclass(eq=False)
class _Actor:
    """`starting` until it has said on which node it is; `flying` in the order in which it runs them."""

    handle: Any
    starting: Any
    node: str | None = None
    flying: dict[Any, Unit] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        return not self.flying


class ActorPool:
    """Runs calls that ask for the same; as many actors as have two calls to do, between the pool's bounds.

    An actor has its first call only when it has started, so one for which there is no room holds up nothing.
    """

    def __init__(self, ground: Ground, pool: Pool, calls: list[Call], label: str, grows: Callable[[], bool]) -> None:
        self._ground, self._pool, self._label, self._grows = ground, pool, label, grows
        self._asks = calls[0]
        self._waiting = deque(Unit(call) for call in calls)
        self._actors: list[_Actor] = []
        self._failed_starts = 0
        asks = {"num_cpus": self._asks.cpus, "num_gpus": self._asks.gpus, "memory": self._asks.memory or None}
        self._worker = ground.ray.remote(max_restarts=0, max_task_retries=0, **asks)(Worker)

    def submit(self) -> list[Any]:
        started = self._resize()
        for ahead in range(_AHEAD):
            for actor in self._actors:
                # The last calls go to those that are about to come, rather than behind another one.
                free = len(self._waiting) - (self._starting() if ahead else 0)
                if actor.node is not None and len(actor.flying) == ahead and free > 0 and self._may_follow(actor):
                    unit = self._waiting.popleft()
                    name = self._label or unit.call.function.__name__
                    ref = actor.handle.run.options(name=name).remote(unit.call.function, *unit.call.args)
                    actor.flying[ref] = unit
                    started.append(ref)
        return started

    def _may_follow(self, actor: _Actor) -> bool:
        """Who has a death to its name flies alone: a result on its way is lost when the next call kills the process,
        and the wrong one blamed, which must not happen four times over."""
        return not actor.flying or not any(unit.deaths for unit in (self._waiting[0], *actor.flying.values()))

    def take(self, ref: Any) -> Iterator[tuple[Call, Any]]:
        actor = next((each for each in self._actors if ref == each.starting or ref in each.flying), None)
        if actor is None:  # told already, when its actor died
            return
        where = self._asks.where if ref == actor.starting else actor.flying[ref].call.where
        try:
            if ref == actor.starting:
                actor.node, self._failed_starts = self._ground.ray.get(ref)[0], 0
                return
            result = self._ground.value(ref, where)
        except self._ground.deaths as fault:
            self._ground.session.check()
            yield from self._buried(actor, fault)
        except self._ground.ray.exceptions.RayError as fault:
            self._ground.session.check()
            raise ClipmillError(where, f"Ray could not start a process for it: {line_of(fault)}") from None
        else:
            yield actor.flying.pop(ref).call, result

    def is_busy(self) -> bool:
        return bool(self._waiting or any(actor.flying for actor in self._actors))

    def close(self) -> None:
        for actor in self._actors:
            self._end(actor)
        self._actors.clear()

    def _starting(self) -> int:
        return sum(actor.node is None for actor in self._actors)

    def _resize(self) -> list[Any]:
        todo = len(self._waiting) + sum(len(actor.flying) for actor in self._actors)
        wanted = min(todo, self._most(), max(self._pool.least, math.ceil(todo / _AHEAD)))
        idle = [actor for actor in sorted(self._actors, key=lambda actor: actor.node is not None) if actor.is_idle]
        for actor in idle[: max(0, len(self._actors) - wanted)]:
            self._end(actor)
            self._actors.remove(actor)
        started = []
        while len(self._actors) < wanted:
            handle = self._worker.remote(self._ground.job)
            self._actors.append(_Actor(handle, handle.node.remote()))
            started.append(self._actors[-1].starting)
        return started

    def _most(self) -> int:
        """Where a pool has no bound, what the nodes have room for, and one more where that makes the cluster grow."""
        if self._pool.most is not None:
            return self._pool.most
        return max(self._pool.least, sum(room(self._asks, node) for node in self._ground.nodes()) + self._grows())

    def _buried(self, actor: _Actor, fault: Any) -> Iterator[tuple[Call, Any]]:
        """Ends a dead actor. What it had finished is told; the first call that it had not is the one that it died of,
        unless its node is gone; all that are not finished are run again, by another one."""
        self._actors.remove(actor)
        self._end(actor)
        faults = self._ground.ray.exceptions
        # Unavailable: Ray cannot reach it and does not know of a death, as when a node was cut off a moment ago.
        blameless = getattr(fault, "preempted", False) or isinstance(fault, faults.ActorUnavailableError)
        blameless = blameless or self._ground.has_lost(actor.node)
        if actor.node is None and not blameless:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                hint = "see that the node has what placement asks for, and enough memory"
                found = f"no process started for it, four times: {line_of(fault)}"
                raise ClipmillError(self._asks.where, found, "a process", hint)
        again = []
        for ref, unit in actor.flying.items():
            try:
                result = self._ground.value(ref, unit.call.where)
            except self._ground.deaths as death:
                if not blameless:
                    unit.died(line_of(death))
                    blameless = True  # those behind it had not begun
                again.append(unit)
            else:
                yield unit.call, result
        self._waiting.extendleft(reversed(again))

    def _end(self, actor: _Actor) -> None:
        with suppress(Exception):
            self._ground.ray.kill(actor.handle, no_restart=True)


def room(asks: Call, node: Node) -> int:
    """How many processes for such calls a node can hold."""
    ratios = [(node.cpus, asks.cpus), (node.gpus, asks.gpus), (float(node.memory), float(asks.memory))]
    return int(min((has / wants for has, wants in ratios if wants), default=max(node.cpus, 1.0)))
