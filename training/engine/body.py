"""What both engines share: the towers under a precision, and the scalar whose gradient is the given one."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.engine.interface import Features

if TYPE_CHECKING:
    from training.towers.towers import Towers


class Body(nn.Module):
    """The towers under the engine's precision. ZeRO-3 sees every parameter used inside this module's forward."""

    def __init__(self, towers: "Towers", precision: str) -> None:
        super().__init__()
        self.towers = towers
        self._half = precision == "bf16"

    def forward(
        self, images_NCHW: Tensor | None, tokens_NL: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
        device = self.towers.log_scale.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            image_ND, text_ND = self.towers(images_NCHW, tokens_NL)
        bias = self.towers.bias
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
