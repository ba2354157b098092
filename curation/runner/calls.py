"""One unit of work, as the driver asks for it. Where it runs is cluster.py's business."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from curation.settings import ActorSettings
from pipeline.errors import ClipmillError, StorageError
from pipeline.log import get_logger
from pipeline.settings import digest_of

log = get_logger("curation")
MOST_DEATHS = 4  # of a call's own process: fewer may be bad luck


@dataclass(frozen=True)
class Pool:
    """Processes that end with the phase, each with the model and the GPU that it began with. `key`: digest of the model
    and of what a process asks for; `most` None: as many as the cluster has room for."""

    key: str
    least: int = 1
    most: int | None = None


class Resources(Protocol):
    @property
    def cpus(self) -> float: ...
    @property
    def gpus(self) -> float: ...
    @property
    def memory(self) -> int: ...


class Asks(Resources, Protocol):
    """What a placement asks for."""

    @property
    def actors(self) -> ActorSettings | None: ...


def pool_of(models: str, asks: Asks, is_heavy: bool = False) -> Pool | None:
    """The processes for what loads `models` (a digest) onto a GPU, or should not stay with it (`is_heavy`), or whose
    recipe asks for actors."""
    if not (asks.gpus or asks.actors or is_heavy):
        return None
    key = digest_of([models, asks.cpus, asks.gpus, asks.memory])
    return Pool(key, asks.actors.min, asks.actors.max) if asks.actors else Pool(key)


@dataclass(frozen=True)
class Call:
    """One task: function(job, *args); `where` names it in errors. `memory`: bytes that Ray keeps free for it, 0: any.

    Without a pool it may run in any process; with GPUs it always has one (see `its_pool`).
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    where: str
    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    pool: Pool | None = None

    @property
    def its_pool(self) -> Pool | None:
        """A process that has opened one GPU stays on it whatever Ray leases it next, so none may be used again."""
        if self.pool is None and self.gpus:
            return Pool(f"{self.function.__qualname__} {self.cpus} {self.gpus} {self.memory}")
        return self.pool


@dataclass(eq=False)
class Unit:
    """A call, and how often its process has died."""

    call: Call
    deaths: int = 0

    def died(self, said: str) -> None:
        """ClipmillError when it has killed its process too often to be bad luck."""
        self.deaths += 1
        if self.deaths >= MOST_DEATHS:
            hint = "use more `curate.buckets`, a smaller placement.<kind>.batch or fewer `curate.ray.num_cpus`"
            found = f"its process died four times: {said}"
            raise ClipmillError(self.call.where, found, "enough memory", hint) from None
        log.debug("%s: its process died, it is run again: %s", self.call.where, said)


@dataclass(frozen=True)
class Node:
    """A living node of the cluster; its resources as it has registered them."""

    id: str
    name: str
    cpus: float
    gpus: float
    memory: int = 0  # bytes that Ray may promise to tasks


Do = Callable[[list[Call], str, str], Iterator[tuple[Call, Any]]]
"""Runs calls under a label, counting units; gives results as they come."""


class Held:
    """Memory of this process: `bytes` resident when it was last given back."""

    SLACK: ClassVar[int] = 64 << 20
    bytes: ClassVar[int] = 0


def done(function: Callable[..., Any], job: Any, *args: Any) -> Any:
    """What the task returns. What it has freed goes back to the system where that is much: it lies between what is
    kept, and a process would seem to grow with the number of its tasks."""
    try:
        return function(job, *args)
    finally:
        if _resident() > Held.bytes + Held.SLACK:
            pa.default_memory_pool().release_unused()
            _trim()(0)
            Held.bytes = _resident()


def _resident() -> int:
    """Bytes; 0 where the system does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return 0


@cache
def _trim() -> Callable[[int], Any]:
    """glibc's; with another C library nothing is done."""
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)


def guarded(function: Callable[..., Any], job: Any, *args: Any) -> tuple[Any, Exception | None]:
    """Errors are values: ours arrive as they left, without Ray's wrapping."""
    try:
        return done(function, job, *args), None
    except ClipmillError as error:
        error.__cause__ = error.__context__ = None  # may hold what cannot be pickled
        return None, error
    except OSError as error:
        return None, StorageError(str(error.filename or function.__name__), line_of(error))
    except Exception as error:
        return None, ClipmillError(function.__name__, f"{type(error).__name__}: {line_of(error)}")


def line_of(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__
