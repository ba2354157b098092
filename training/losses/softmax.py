"""The CLIP loss (Radford et al., 2021) and its gradient, without ever holding the B x B matrix of scores."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from pipeline.settings import Settings
from training.losses.base import LossOutput
from training.peers import Peers


class SoftmaxLoss(Settings):
    """Cross-entropy of each image over all texts and of each text over all images, averaged."""

    kind: Literal["softmax"] = "softmax"
    variant: Literal["gather"] = "gather"
    tile: int = Field(1024, ge=1, description="side of the largest block of scores ever held, in pairs")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)

    def __call__(
        self,
        image_ND: Tensor,
        text_ND: Tensor,
        log_scale: Tensor,
        bias: Tensor | None,
        valid_N: Tensor | None,
        peers: Peers,
    ) -> LossOutput:
        raise NotImplementedError
