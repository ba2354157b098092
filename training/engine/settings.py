"""How the towers are trained: the `engine` section of `train`. Its optimizers are in `optimizers/`."""

from typing import Literal

from pydantic import Field

from pipeline.settings import Settings


class EngineSettings(Settings):
    """How the optimizer's state is spread over ranks, and in which precision the towers compute."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    grad_clip: float | None = Field(None, gt=0.0, description="largest global gradient norm; null: no clipping")
    check_cache: bool = Field(False, description="compare both passes of the gradient cache (slow, for debugging)")
