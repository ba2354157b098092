"""What trains the towers: one interface, without ZeRO (`plain`, the oracle) or with it (`zero`).

Letters: N rows of a chunk, D features.

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

if TYPE_CHECKING:
    from training.towers.towers import Towers


class Features(NamedTuple):
    """What one forward gives: normalised fp32 features, and the loss's own parameters as part of the same graph."""

    image_ND: Tensor
    text_ND: Tensor
    log_scale: Tensor  # [1]
    bias: Tensor | None  # [1]


@dataclass(frozen=True)
class StepInfo:
    """What one optimizer step did."""

    grad_norm: float  # global norm before clipping; infinite when it was not finite
    skipped: bool  # the norm was not finite: parameters, moments and the step count are as before


class Engine(Protocol):
    """Every method is collective (properties are not): all ranks call it, equally often and in the same order."""

    settings: EngineSettings
    peers: Peers
    device: torch.device
    towers: "Towers"  # for sizes, tokenizer and names; under ZeRO-3 its parameters are empty between forwards
    optimizer_steps: int  # steps taken; skipped ones do not count
    moments: dict[str, tuple[str, ...]]  # of each trained parameter: what the optimizer keeps for every element

    @property
    def log_scale(self) -> float:
        """The log of the logit scale, now."""
        ...

    def forward(self, images_NCHW: Tensor, tokens_NL: Tensor) -> Features:
        """Train-mode features; keeps a graph unless under torch.no_grad(). Inputs may live on any device."""
        ...

    def evaluate(
        self, images_NCHW: Tensor | None = None, tokens_NL: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Eval-mode (image_ND, text_ND) without a graph; either input may be None, the same one on every rank."""
        ...

    def accumulate(self) -> AbstractContextManager[None]:
        """Backwards inside add up; gradients are summed over ranks once, on leaving. One `step` follows."""
        ...

    def backward(
        self,
        features: Features,
        d_image_ND: Tensor,
        d_text_ND: Tensor,
        d_scale: Tensor | None = None,
        d_bias: Tensor | None = None,
    ) -> None:
        """Sends the features' gradients through the towers; only inside `accumulate`.

        `d_scale` and `d_bias` are already global: every rank gives them, in one of the step's chunks only.
        """
        ...

    def step(self, lr: float) -> StepInfo:
        """Clips, steps with learning rate `lr` (times `lr_scales`), clamps the log scale, clears gradients.

        A gradient that is not finite changes nothing but the gradients, on every rank alike.
        """
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
