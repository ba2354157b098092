"""What a term of the objective is: settings that build a `StepTerm` or a `ChunkTerm`.

Letters: N rows on this rank, M flat rows, D features.

A StepTerm sees the features of the whole step at once and gives their exact gradients, outside autograd: contrast and
all that compares rows. A ChunkTerm sees the outputs of a few rows inside the replay, by autograd: a sum over rows, such
as the cross-entropy of captions. Which of the two a term is shows by what its settings build.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from pipeline.settings import Settings
from training.scheduled import Scheduled
from training.terms.costs import StepSizes, TermCost
from training.wanted import Head, Scalar, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from training.ranks.peers import Peers
    from training.rows import Rows


@dataclass(frozen=True)
class TermOutput:
    """One step's value of a term and its exact gradients.

    `value` is of the whole batch, the same number on every rank. `grads` are its gradients with respect to this rank's
    entries, by feature: summed over ranks (never averaged) through the towers they give the gradient of the whole
    batch; a feature that is not there gets none. `d_scalars` are global already, the same on every rank. Rows that are
    not valid have zero gradients. Metrics are 0-dim, global, and stay on the device: a step reads them all at once.
    """

    value: "Tensor"  # 0-dim
    grads: "Rows"
    d_scalars: "Rows" = field(default_factory=dict)  # each of shape [1]
    metrics: "Rows" = field(default_factory=dict)


class StepTerm(Protocol):
    """A pure function of the whole step's features. Collective."""

    @property
    def needs(self) -> frozenset[str]:
        """Outputs of the towers."""
        ...

    def __call__(self, features: "Rows", scalars: "Rows", rows: "Rows", peers: "Peers") -> TermOutput:
        """`features`: what `needs` names, float32 or wider, without a graph; `scalars`: all of the towers', [1] each;
        `rows`: the columns of this rank's batch. Ranks may hold different numbers of rows, or none.
        """
        ...


class ChunkTerm(Protocol):
    """A sum over rows, by autograd, divided by a count of the whole batch that is known beforehand."""

    @property
    def needs(self) -> frozenset[str]: ...

    def count(self, rows: "Rows") -> "Tensor":
        """What this rank's rows weigh (0-dim, float): the value is the sum over all ranks' rows / the sum of counts."""
        ...

    def __call__(self, outputs: "Rows", rows: "Rows") -> "Tensor":
        """The sum over the valid ones of these rows (0-dim), with a graph; zero, with a graph, where none is valid."""
        ...


class Keeps(Protocol):
    """What a term has besides if it trains weights of its own, which no engine knows: it steps and saves them itself.

    Every method is collective. `state` and `load` as in `training.companions`: whole tensors, one at a time.
    """

    def after_step(self, lr: float, skipped: bool) -> None:
        """The step is done; `skipped`: loss or gradients were not finite, and nothing may change here either."""
        ...

    def state(self) -> "Iterator[tuple[str, Tensor]]": ...

    def load(self, get: "Callable[[str], Tensor | None]") -> None: ...


class TermSettings(Settings):
    """A term as a recipe names it. A term is one file, one line in the table, one test."""

    weight: Scheduled = Field(1.0, description="a number, or [share of the run's steps that are done, number] points")
    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_]*$", description="in the log; default: the kind")

    @property
    def called(self) -> str:
        """Its name in the log and in checkpoints."""
        return self.name or str(type(self).model_fields["kind"].default)

    def scalars(self) -> tuple[Scalar, ...]:
        """The trained numbers that the term reads."""
        return ()

    def heads(self) -> tuple[Head, ...]:
        """Layers behind the image tower that only the training has."""
        return ()

    def wanted(self) -> Wanted:
        """What the reader has to hand over beside a picture and a caption."""
        return Wanted()

    def costs(self, at: StepSizes) -> TermCost | None:
        """What it does between the passes of a step, for plans. None: it does not say, and a plan names it as not
        counted; NotCounted, with the reason, where only this recipe's cannot be told."""
        return None

    @abstractmethod
    def build(self) -> StepTerm | ChunkTerm:
        """The term itself. Torch is imported here, not before: settings are read without it."""
