"""What trains the towers: one interface, without ZeRO (`plain`, the oracle) or with it (`zero`).

Gradients are SUMMED over ranks: a loss hands each rank the gradient of the global mean loss with respect to its own
rows, so the sum is the gradient of the whole batch. Parameters are fp32 in every engine and stage; `precision: bf16`
is autocast inside the forward, so the logit scale, the optimizer and the reductions stay fp32.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.rows import Rows

if TYPE_CHECKING:
    from training.towers.towers import Towers


class Outputs(NamedTuple):
    """What one forward gives: the outputs asked for, and the towers' trained numbers as part of the same graph."""

    features: Rows
    scalars: Rows  # each of shape [1]


@dataclass(frozen=True)
class StepInfo:
    """What one optimizer step did."""

    grad_norm: float  # global norm before clipping; infinite when it was not finite
    skipped: bool  # the norm was not finite: parameters, moments and the step count are as before


class Fragment(NamedTuple):
    """This rank's part of a parameter and its moments: flat views that may be read and written to.

    Each element is in the fragment of one rank. `tensors` ("param" and the moments; of a frozen parameter "param"
    alone) is empty where this rank holds nothing of it.
    """

    name: str
    shape: tuple[int, ...]  # of the whole parameter
    start: int  # offset in the flattened parameter
    tensors: Rows


class Engine(Protocol):
    """Every method is collective (properties are not): all ranks call it, equally often and in the same order."""

    settings: EngineSettings
    peers: Peers
    device: torch.device
    towers: "Towers"  # for sizes, tokenizer and names; under ZeRO-3 its parameters are empty between forwards
    optimizer_steps: int  # steps taken; skipped ones do not count
    moments: dict[str, tuple[str, ...]]  # of each trained parameter: what the optimizer keeps for every element

    def forward(self, rows: Rows, want: frozenset[str]) -> Outputs:
        """Train-mode outputs; keeps a graph unless under torch.no_grad(). Rows may live on any device."""
        ...

    def evaluate(self, rows: Rows, want: frozenset[str]) -> Rows:
        """Eval-mode outputs without a graph; `want` is the same on every rank."""
        ...

    def scalars(self) -> dict[str, float]:
        """The towers' trained numbers, now."""
        ...

    def accumulate(self) -> AbstractContextManager[None]:
        """Backwards inside add up; gradients are summed over ranks once, on leaving. One `step` follows."""
        ...

    def backward(self, total: Tensor) -> None:
        """The gradient of `total` (0-dim), this rank's share of the whole batch's; only inside `accumulate`."""
        ...

    def step(self, lr: float) -> StepInfo:
        """Clips, steps with learning rate `lr` (times `lr_scales`), clamps the log scale, clears gradients.

        A gradient that is not finite changes nothing but the gradients, on every rank alike.
        """
        ...

    def fragments(self) -> Iterator[Fragment]:
        """This rank's part of every parameter, in `named_parameters` order. Not collective."""
        ...

    def lent(self, whole: Callable[[str], Tensor]) -> AbstractContextManager[None]:
        """Forwards inside use `whole(name)`, which may be collective, for every trained parameter; what is trained, and
        saved, stays as it is. Leave it before anything else than forwards, `scalars` and `fragments`."""
        ...

    def full_state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each tensor of the state, whole, on every rank, whatever the stage and world, one at a time.

        Trained parameters in `named_parameters` order: {"param", *moments}, fp32; frozen ones:
        {"param"}; then persistent buffers (rank 0's): {"buffer"}. CPU tensors. `optimizer_steps` belongs with it.
        """
        ...

    def load_full_state(self, get: Callable[[str], dict[str, Tensor]], step: int) -> None:
        """Sets masters, moments, live parameters, buffers and the step count from what `full_state` gave.

        `get` is called with the names `full_state` yields; moments may be absent (zeros). DataError: a missing tensor
        or another shape.
        """
        ...
