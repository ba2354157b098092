"""What trains the towers: one interface, without ZeRO (`plain_engine`, the oracle) or with it (`deepspeed_engine`).

Letters: N rows of a chunk, D features.

Gradients are SUMMED over ranks: a loss hands each rank the gradient of the global mean loss with respect to its own
rows, so the sum is the gradient of the whole batch. Parameters are fp32 in every engine and stage; `precision: bf16`
is autocast inside the forward, so the logit scale, the optimizer and the reductions stay fp32.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import RecipeError
from pipeline.settings import Settings
from training.adamw import GuardedAdamW, adamw_for
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
    towers: nn.Module  # for sizes, tokenizer and names; under ZeRO-3 its parameters are empty between forwards
    optimizer_steps: int  # steps taken; skipped ones do not count

    @property
    def log_scale(self) -> float:
        """The log of the logit scale, now."""
        ...

    def forward(self, images_NCHW: Tensor, tokens_NL: Tensor, seeds_N: Tensor | None = None) -> Features:
        """Train-mode features; keeps a graph unless under torch.no_grad(). Inputs may live on any device.

        `seeds_N` (int64, one per pair) keys the towers' own randomness; it is passed on only when given.
        """
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

        Trained parameters in `named_parameters` order: {"param", "exp_avg", "exp_avg_sq"}, fp32; frozen ones:
        {"param"}; then persistent buffers (rank 0's): {"buffer"}. CPU tensors. `optimizer_steps` belongs with it.
        """
        ...

    def load_full_state(self, get: Callable[[str], dict[str, Tensor]], step: int) -> None:
        """Sets masters, moments, live parameters, buffers and the step count from what `full_state` gave.

        `get` is called with the names `full_state` yields; moments may be absent (zeros). DataError: a missing tensor
        or another shape.
        """
        ...


class Body(nn.Module):
    """The towers under the engine's precision. ZeRO-3 sees every parameter used inside this module's forward."""

    def __init__(self, towers: nn.Module, precision: str) -> None:
        super().__init__()
        self.towers = towers
        self._half = precision == "bf16"

    def forward(
        self, images_NCHW: Tensor | None, tokens_NL: Tensor | None, seeds_N: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        given = images_NCHW if images_NCHW is not None else tokens_NL
        keyed = {} if seeds_N is None else {"seeds_N": seeds_N}
        with torch.autocast(given.device.type, torch.bfloat16, enabled=self._half):
            image_ND, text_ND = self.towers(images_NCHW, tokens_NL, **keyed)
        bias = getattr(self.towers, "bias", None)
        return image_ND, text_ND, self.towers.log_scale * 1.0, None if bias is None else bias * 1.0


def surrogate(
    features: Features,
    d_image_ND: Tensor,
    d_text_ND: Tensor,
    d_scale: Tensor | None,
    d_bias: Tensor | None,
    share: float,
) -> Tensor:
    """A scalar whose gradient is the given ones; `share` weighs what every rank gives alike."""
    total = (features.image_ND * d_image_ND).sum() + (features.text_ND * d_text_ND).sum()
    if d_scale is not None:
        total = total + share * (features.log_scale * d_scale).sum()
    if d_bias is not None and features.bias is not None:
        total = total + share * (features.bias * d_bias).sum()
    return total


def build_engine(towers: nn.Module, engine: EngineSettings, optimizer: OptimizerSettings, peers: Peers) -> Engine:
    """The engine of `engine.zero_stage`, with the towers moved to `peers.device` and rank 0's weights on every rank.

    `towers` has `log_scale` (and, for some losses, `bias`) of shape [1]; `towers(images, tokens)` returns normalised
    fp32 features. Raises RecipeError on a combination that cannot work, before any work.
    """
    _check(towers, engine)
    towers.to(peers.device)
    for tensor in [*towers.parameters(), *towers.buffers()]:
        peers.broadcast(tensor.data)
    made = _optimizer(towers, optimizer)
    if engine.zero_stage == 0:
        from training.plain_engine import PlainEngine

        return PlainEngine(towers, engine, made, peers)
    from training.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(towers, engine, made, peers)


def _optimizer(towers: nn.Module, settings: OptimizerSettings) -> GuardedAdamW:
    return adamw_for(towers, settings.lr, settings.betas, settings.eps, settings.weight_decay, dict(settings.lr_scales))


def _check(towers: nn.Module, engine: EngineSettings) -> None:
    log_scale = getattr(towers, "log_scale", None)
    if not isinstance(log_scale, nn.Parameter) or tuple(log_scale.shape) != (1,):
        found = "no parameter log_scale" if log_scale is None else f"log_scale of shape {tuple(log_scale.shape)}"
        raise RecipeError(
            "train.model", found, "a parameter log_scale of shape [1]: 0-dim ones break DeepSpeed on gloo"
        )
    dtypes = {parameter.dtype for parameter in towers.parameters()}
    allowed = (
        {torch.float32, torch.float64} if engine.zero_stage == 0 and engine.precision == "fp32" else {torch.float32}
    )
    if not dtypes <= allowed:
        raise RecipeError(
            "train.model",
            f"parameters in {sorted(str(dtype) for dtype in dtypes)}",
            "fp32 parameters: every engine keeps them so, and computes in train.engine.precision",
            "build the towers in fp32 and set train.engine.precision=bf16",
        )
