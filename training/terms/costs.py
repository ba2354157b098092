"""What a term costs between the passes of a step, as it says so itself (`TermSettings.costs`), for plans.

What a term has the towers do, outputs and heads and chunk terms, is no part of it: plans look at the towers. Letters: B
pairs of W ranks, b of the fullest. Bytes moved are those that `training.ranks.peers` counts. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training.ranks.ring import F32, F64, I64, gathered, summed

if TYPE_CHECKING:
    from training.terms.cores.exchange.costs import CoreStep

_SCORES = 12  # reads and writes of a score: sweeps make it, take exponentials and sum
WIRES = {"fp32": F32, "bf16": 2}


class NotCounted(Exception):
    """Why a term's costs cannot be told, in words."""


@dataclass(frozen=True)
class StepSizes:
    """A step as terms meet it: every pair counts, and has as many captions and words as it may.

    `shapes`: of one entry of an output of the towers, and of a column that companions give, by name. `queues`: pairs
    that the fullest rank has of a momentum companion's queue, by its name. `tile`: what `auto` stands for.
    """

    ranks: int
    pairs: int
    shapes: Mapping[str, tuple[int, ...]]
    queues: Mapping[str, int] = field(default_factory=dict)
    tile: tuple[int, int] = (512, 512)

    @property
    def rows(self) -> int:
        return -(-self.pairs // self.ranks)

    @property
    def every(self) -> int:
        """Rows of all ranks, were all as full as the fullest: what blocks of equal size come to."""
        return self.ranks * self.rows

    def shape(self, name: str) -> tuple[int, ...]:
        """NotCounted where nobody can tell."""
        if name not in self.shapes:
            raise NotCounted(f"the size of {name} is not known here")
        return self.shapes[name]

    def width(self, name: str) -> int:
        """Numbers of a vector."""
        return self.shape(name)[-1]

    def gathered(self, size: int) -> int:
        return gathered(size, self.ranks)

    def summed(self, size: int) -> int:
        return summed(size, self.ranks)


@dataclass(frozen=True)
class Trained:
    """Weights that a term trains by itself: elements on the fullest rank, and of all; with AdamW's two moments.

    `tensors`: of a checkpoint; `counts`: those of them that count steps.
    """

    here: int = 0
    whole: int = 0
    tensors: int = 0
    counts: int = 0

    @property
    def held(self) -> int:
        """Bytes on a rank during a step: weights, moments, gradients."""
        return 4 * F32 * self.here

    @property
    def saved(self) -> int:
        """Bytes of a checkpoint."""
        return F32 * (3 * self.whole + self.counts)


@dataclass(frozen=True)
class TermCost:
    """Of one rank and step. `moved`: bytes received; `flops`: of matrix products, in fp32; `touched`: bytes read and
    written for what is no product; `held`: most bytes at a time beside features and their gradients."""

    moved: int = 0
    flops: int = 0
    touched: int = 0
    held: int = 0
    trained: Trained = Trained()


@dataclass(frozen=True)
class TargetCost:
    """What a target adds to a core: labels of rows are gathered; some of it lies off the pairs; widths of the vectors
    whose scores it is made of."""

    labels: bool = False
    spread: bool = False
    soft: tuple[int, ...] = ()


def of_core(step: "CoreStep", more_moved: int = 0) -> TermCost:
    """What a term costs that is a core at work."""
    touched = _SCORES * F32 * step.scores() * (1 + len(step.soft) + step.spread)
    return TermCost(step.moved() + more_moved, step.flops(), touched, step.held())


@dataclass(frozen=True)
class Everyones:
    """Costs of the pieces of `terms/across`, of rows of `width` numbers; `tile`: as theirs."""

    at: StepSizes
    width: int
    tile: int

    @property
    def _vectors(self) -> int:
        return self.at.gathered(self.at.rows * self.width * F32)

    def begin(self) -> int:
        """Bytes of `Everyone.of`: how many rows each rank has, and their ids."""
        return self.at.gathered(I64 * (1 + self.at.rows))

    def sums(self, numbers: int) -> int:
        """Bytes of so many sums over all ranks, one at a time."""
        return numbers * self.at.summed(F64)

    def swept(self, times: int, products: int, kept: int = 2) -> TermCost:
        """`times` candidates are gathered and their gradients scattered, with so many products of b B `width` in all.

        `kept`: blocks of all ranks' candidates that lie there at a time."""
        scores, side = self.at.rows * self.at.every, min(self.tile, self.at.every)
        moved, flops = 2 * times * self._vectors, 2 * products * scores * self.width
        held = F32 * (kept * self.at.every * self.width + 6 * min(side, self.at.rows) * side)
        return TermCost(moved, flops, 8 * F32 * times * scores, held)
