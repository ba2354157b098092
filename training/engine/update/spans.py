"""Which part of each parameter a flat partition holds: ZeRO cuts them anywhere, norms and matrices need them whole.

A master is what an optimizer steps: a whole parameter without ZeRO, a rank's part of a flattened group under it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Elements [start, start + size) of the flattened parameter `name` lie at [offset, offset + size) of the master."""

    name: str
    shape: tuple[int, ...]
    start: int
    offset: int
    size: int  # 0 where another rank holds the parameter

    def of(self, flat: Tensor) -> Tensor:
        """This rank's elements, as a view of a flattened master or of a tensor of its shape."""
        return flat[self.offset : self.offset + self.size]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


Layout = Callable[[Tensor], list[Span]]
"""The spans of a master: one for each parameter of its group, in the same order on every rank."""


def assembled(span: Span, flat: Tensor, all_sum: Callable[[Tensor], Tensor]) -> Tensor:
    """The whole parameter's values out of every rank's `flat`, in its own shape. Collective."""
    if span.size == span.numel:
        # Whole here; under ZeRO other ranks hold nothing of it, but they wait for this one's numbers.
        return all_sum(span.of(flat)).view(span.shape)
    whole = flat.new_zeros(span.numel)
    whole[span.start : span.start + span.size] = span.of(flat)
    return all_sum(whole).view(span.shape)
