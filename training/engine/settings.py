"""How the towers are trained: the `engine` and `optimizer` sections of `train`."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from pipeline.settings import Settings

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


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
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    eps: float = Field(1e-6, gt=0.0)
    weight_decay: float = Field(0.2, ge=0.0)
    lr_scales: dict[str, NonNegativeFloat] = Field(
        default_factory=dict, description="prefix of a parameter's name -> factor on its learning rate (longest wins)"
    )
