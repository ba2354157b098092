"""What a companion does from step to step, and all of a run's together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from training.engine.interface import Engine
from training.reader.batch import Batch
from training.rows import Rows
from training.terms.term import Keeps

Kept = Callable[[str], Tensor | None]
"""The tensor of a name that a checkpoint holds; None: it has none."""


class Companion:
    """Every method is collective unless a kind says otherwise. What is here does nothing."""

    name: str

    def enrich(self, batch: Batch, wanted: frozenset[str], chunk: int) -> Rows:
        """Those of the columns in `wanted` that it gives, for this rank's rows; without a graph, holding the
        activations of `chunk` rows at a time."""
        return {}

    def after_step(self, engine: Engine, lr: float, skipped: bool) -> None:
        """The step is done; `skipped`: nothing was changed by it, and nothing may be here."""

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """All that a restart needs, one whole tensor at a time, the same on every rank for any number of ranks."""
        yield from ()

    def load(self, get: Kept) -> None:
        """Sets what `state` gave, on any number of ranks."""


Kind = TypeVar("Kind", bound=Companion)


class OfTerm(Companion):
    """The weights that a term trains by itself."""

    def __init__(self, name: str, term: Keeps) -> None:
        self.name, self._term = f"term.{name}", term

    def after_step(self, engine: Engine, lr: float, skipped: bool) -> None:
        self._term.after_step(lr, skipped)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._term.state()

    def load(self, get: Kept) -> None:
        self._term.load(get)


@dataclass(frozen=True)
class Companions:
    """Of one run, in the order of the recipe: a later one sees the columns of those before."""

    each: tuple[Companion, ...] = ()

    def enriched(self, batch: Batch, wanted: frozenset[str], chunk: int) -> Batch:
        for one in self.each:
            found = one.enrich(batch, wanted, chunk)
            batch = replace(batch, rows=batch.rows | found) if found else batch
        return batch

    def after_step(self, engine: Engine, lr: float, skipped: bool) -> None:
        for one in self.each:
            one.after_step(engine, lr, skipped)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for one in self.each:
            yield from ((f"{one.name}/{name}", tensor) for name, tensor in one.state())

    def load(self, get: Kept) -> None:
        for one in self.each:
            one.load(_below(get, one.name))

    def of(self, kind: type[Kind]) -> Iterator[Kind]:
        return (one for one in self.each if isinstance(one, kind))


NONE = Companions()


def _below(get: Kept, prefix: str) -> Kept:
    return lambda name: get(f"{prefix}/{name}")
