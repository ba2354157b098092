"""Who answers: a server, a model in this process, a function. A new backend is one file, one line and one test."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Protocol

from curation.generation.request import Answer, Request
from curation.stage import Context
from pipeline.settings import Settings


class Later(Exception):
    """Not now: a limit, a server that is down, a connection that broke. `after_s`: when it said to come back.
    `may_cost`: the request was sent and not refused, so that it may be answered, and billed, without our knowing."""

    def __init__(self, reason: str, after_s: float | None = None, *, may_cost: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.after_s, self.may_cost = reason, after_s, may_cost


class Session(Protocol):
    """Open connections to a server."""

    async def ask(self, request: Request) -> Answer:
        """The answer, or one that has `failed` for good. Raises Later; RecipeError where no request of this recipe can
        work (a wrong key, no such model)."""
        ...


class Backend(Settings):
    """What a recipe says of one. `model` goes with each caption as its provenance; `max_tokens`, where there are any,
    bound an answer."""

    kind: str
    model: str
    is_server: ClassVar[bool] = False  # gives one answer to one request
    inputs: ClassVar[tuple[str, ...]] = ()  # columns that it is given besides those that the prompt reads
    needs_prompt: ClassVar[bool] = True

    @property
    def named(self) -> str:
        """The model, in a word."""
        return self.model

    @property
    def most_tokens(self) -> int | None:
        """Of an answer; None where nothing bounds it."""
        return getattr(self, "max_tokens", None)

    def identity(self) -> dict[str, Any]:
        """What answers depend on beside the prompt (model, parameters, weights), but not where it runs."""
        raise NotImplementedError

    def file_digests(self, where: str) -> dict[str, tuple[str, str]]:
        """(path, digest) of the files it reads, by setting."""
        return {}

    def check(self, where: str) -> None:
        """RecipeError, naming `where`, for what can be seen to be wrong before any work. No network."""


class ServerBackend(Backend):
    """Asked one by one, many at a time."""

    is_server: ClassVar[bool] = True

    def session(self, most: int, timeout_s: float) -> AbstractAsyncContextManager[Session]:
        """Connections for at most so many calls at a time, each of which may take so long."""
        raise NotImplementedError


class BatchBackend(Backend):
    """Asked in batches, in a process that has loaded it (`placement.generate`: GPUs, actors, batch)."""

    is_heavy: ClassVar[bool] = False  # loads a model: runs in processes of its own

    def open(self, ctx: Context) -> Callable[[Sequence[Request]], Sequence[Sequence[Answer]]]:
        """A function of requests that gives the answers of each: mostly one."""
        raise NotImplementedError
