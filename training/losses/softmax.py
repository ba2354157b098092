"""The CLIP loss (Radford et al., 2021) as a recipe names it. Imports no torch: settings are read without it."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.losses.loss import LossOutput
    from training.ranks.peers import Peers


class SoftmaxLoss(Settings):
    """Cross-entropy of each image over all texts and of each text over all images, averaged."""

    kind: Literal["softmax"] = "softmax"
    tile: int = Field(1024, ge=1, description="side of the largest block of scores ever held, in pairs")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)

    def __call__(
        self,
        image_ND: "Tensor",
        text_ND: "Tensor",
        log_scale: "Tensor",
        bias: "Tensor | None",
        valid_N: "Tensor | None",
        peers: "Peers",
    ) -> "LossOutput":
        from training.losses.cores.softmax import softmax_loss

        inputs = (image_ND, text_ND, log_scale, bias, valid_N, peers)
        return softmax_loss(*inputs, tile=self.tile, smoothing=self.label_smoothing)
