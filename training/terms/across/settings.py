"""Settings of a term that is written down as a value; read without torch."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from training.terms.term import StepTerm, TermSettings

if TYPE_CHECKING:
    from torch import Tensor

    from training.rows import Rows
    from training.terms.across.everyone import Everyone


class AcrossSettings(TermSettings):
    """A term is `needs` and `value`; gradients, masks and ranks are in this room."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """Outputs of the towers, each with one entry for each row."""

    @abstractmethod
    def value(self, features: "Rows", scalars: "Rows", everyone: "Everyone") -> "tuple[Tensor, Rows]":
        """(the term over all ranks, metrics), with a graph, from the features of this rank's rows that count.

        `scalars`: those that the settings name. They, and all that is not a piece of this room, enter row by row.
        """

    def build(self) -> StepTerm:
        from training.terms.across.term import AcrossTerm

        return AcrossTerm(self)
