"""The image and text towers, built by open_clip; the only file that imports it.

Shape letters: N rows, C channels, H and W pixels, L tokens, D embedding width.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import nn

from pipeline.settings import Settings


class ModelSettings(Settings):
    """Exactly one of `name` (any open_clip model) and `config` (open_clip's model_cfg, inline)."""

    name: str | None = None
    config: dict[str, Any] | None = None
    pretrained: str | None = None  # an open_clip tag, or a local checkpoint
    image_size: Annotated[int, Field(gt=0)] | None = None  # default: what the config says
    patch_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lock_image: bool = False  # locked-image tuning (LiT, Zhai et al. 2022)
    lock_text: bool = False
    grad_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "ModelSettings":
        if (self.name is None) == (self.config is None):
            raise ValueError("give exactly one of `name` (an open_clip model) and `config` (embed_dim, vision_cfg, text_cfg)")
        return self


class Towers(nn.Module):
    """Features of images and texts. Parameters: `image.*`, `text.*`, `log_scale` [1] and, for some losses, `bias` [1].

    Call it as a module, `towers(images, tokens)`, never a method of a part: ZeRO-3 gathers parameters on module hooks.
    """

    image: nn.Module
    text: nn.Module
    log_scale: nn.Parameter  # [1]: a 0-dim parameter breaks DeepSpeed over gloo
    bias: nn.Parameter | None
    image_size: int
    context_length: int
    embed_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def forward(
        self, images_NCHW: torch.Tensor | None = None, tokens_NL: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(image_ND, text_ND), fp32, L2-normalised; uint8 pixels in. A None input gives a None output."""
        raise NotImplementedError

    def tokenize(self, texts: list[str]) -> torch.Tensor:
        """int64 [N, context_length]."""
        raise NotImplementedError

    def native_state_dict(self, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """`state` (default: own parameters) under open_clip's native names, logit_scale 0-dim."""
        raise NotImplementedError

    def open_clip_model(self, state: Mapping[str, torch.Tensor] | None = None) -> nn.Module:
        """A fresh open_clip model holding these weights, for export and its logits round trip."""
        raise NotImplementedError

    def open_clip_config(self) -> dict[str, Any]:
        """{"model_cfg": ..., "preprocess_cfg": ...}: the content of open_clip_config.json."""
        raise NotImplementedError


def build_towers(settings: ModelSettings, seed: int = 0, *, init_bias: float | None = None) -> Towers:
    """Towers with weights drawn from `seed`, the same on every rank, or pretrained.

    RecipeError: unknown model, wrong config, weights or tokenizer that cannot be had offline.
    """
    raise NotImplementedError
