"""What trains the towers: one interface, without ZeRO (`plain_engine`, the oracle) or with it (`deepspeed_engine`).

Letters: N rows of a chunk, D features.

Gradients are SUMMED over ranks: a loss hands each rank the gradient of the global mean loss with respect to its own
rows, so the sum is the gradient of the whole batch. Parameters are fp32 in every engine and stage; `precision: bf16`
is autocast inside the forward, so the logit scale, the optimizer and the reductions stay fp32.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.settings import Settings
from training.peers import Peers


class EngineSettings(Settings):
    """How the optimizer's state is spread over ranks, and in which precision the towers compute."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    grad_clip: float | None = Field(None, gt=0.0, description="largest global gradient norm; null: no clipping")
    check_cache: bool = Field(False, description="compare both passes of the gradient cache (slow, for debugging)")


class OptimizerSettings(Settings):
    """AdamW (Loshchilov and Hutter, 2019). Gains, biases, other 1-d parameters and the logit scale do not decay."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(5e-4, ge=0.0, description="peak learning rate; the schedule scales it")
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0.0)
    weight_decay: float = Field(0.2, ge=0.0)
    lr_scales: dict[str, float] = Field(
        default_factory=dict, description="prefix of a parameter's name -> factor on its learning rate (longest wins)"
    )


@dataclass(frozen=True)
class StepInfo:
    """What one optimizer step did."""

    grad_norm: float  # global norm before clipping
    skipped: bool  # the norm was not finite: parameters, moments and the step count are as before


class Engine(Protocol):
    """Every method but the properties is collective: all ranks call it, the same number of times, in the same order."""

    peers: Peers
    device: torch.device

    @property
    def towers(self) -> nn.Module:
        """The towers, for their sizes, tokenizer and parameter names; under ZeRO-3 their parameters are empty."""
        ...

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps taken (skipped ones are not counted)."""
        ...

    @property
    def log_scale(self) -> Tensor:
        """The log of the logit scale: detached fp32 copy, shape [1]."""
        ...

    @property
    def bias(self) -> Tensor | None:
        """The logit bias: detached fp32 copy, shape [1]; None when the towers have none."""
        ...

    def forward(self, images_NCHW: Tensor, tokens_NL: Tensor, seeds_N: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Train-mode features (image_ND, text_ND), fp32, normalised. Keeps a graph unless under torch.no_grad().

        `seeds_N` (int64, one per pair) keys the towers' own randomness; it is passed on only when given.
        """
        ...

    def evaluate(self, images_NCHW: Tensor | None, tokens_NL: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Eval-mode features without a graph; either input may be None. Under ZeRO-3 all ranks call it together."""
        ...

    def accumulate(self) -> AbstractContextManager[None]:
        """Backwards inside add up; gradients are reduced over ranks once, on leaving."""
        ...

    def backward(
        self,
        features: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
        d_scale: Tensor | None = None,
        d_bias: Tensor | None = None,
    ) -> None:
        """Sends gradients of the features (as `forward` gave them) through the towers; only inside `accumulate`.

        `d_scale` and `d_bias`, the global gradients, are given once a step (or on every rank in the same chunk).
        """
        ...

    def step(self, lr: float) -> StepInfo:
        """Clips, steps with peak group rate `lr`, clamps the log scale to [0, ln 100], clears gradients."""
        ...

    def full_state(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Each tensor of the state, whole, on every rank, whatever the stage and world, in `named_parameters` order.

        Trained parameters: {"param", "exp_avg", "exp_avg_sq"}; frozen ones {"param"}; persistent buffers {"buffer"}.
        CPU tensors. Moments not made yet are zeros. `optimizer_steps` belongs with it. One parameter at a time in memory.
        """
        ...

    def load_full_state(self, get: Callable[[str], dict[str, Tensor]], step: int) -> None:
        """Sets masters, moments, live parameters and the optimizer's step count from `full_state`'s output.

        `get(name)` returns that parameter's tensors (moments may be absent: zeros). Raises DataError on another shape.
        """
        ...


def build_engine(towers: nn.Module, engine: EngineSettings, optimizer: OptimizerSettings, peers: Peers) -> Engine:
    """The engine of `engine.zero_stage`. Rank 0's parameters are broadcast, so ranks need not agree beforehand.

    `towers` must have `log_scale` of shape [1] (and may have `bias` of shape [1]); `towers(images, tokens)` returns
    normalised fp32 features. Raises RecipeError on a combination that cannot work, before any work.
    """
    raise NotImplementedError
