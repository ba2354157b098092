"""What every loss is: a pure function outside autograd, from the features of a whole step to its gradients.

Letters: N rows on this rank, G rows on all ranks, D features.
"""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from training.ranks.peers import Peers


@dataclass(frozen=True)
class LossOutput:
    """One step's loss and its exact gradients.

    `loss` is the mean over all valid pairs of all ranks, the same number on every rank. `d_image_ND` and `d_text_ND`
    are the gradients of that one number with respect to this rank's rows: summed over ranks (never averaged) through
    the towers they give the gradient of the whole batch. `d_scale` and `d_bias`, shape [1], are with respect to the LOG
    of the logit scale and to the bias; they are already the global gradients, the same on every rank. Rows not valid
    have zero gradients.
    """

    loss: Tensor  # 0-dim
    d_image_ND: Tensor
    d_text_ND: Tensor
    d_scale: Tensor  # shape [1]
    d_bias: Tensor | None  # shape [1]; None for a loss without a bias
    pairs: int  # valid pairs on all ranks
    metrics: dict[str, float] = field(default_factory=dict)  # loss_i2t, loss_t2i, acc_i2t, acc_t2i


class Loss(Protocol):
    """Settings that are callable: features in, gradients out."""

    def __call__(
        self,
        image_ND: Tensor,
        text_ND: Tensor,
        log_scale: Tensor,
        bias: Tensor | None,
        valid_N: Tensor | None,
        peers: Peers,
    ) -> LossOutput:
        """Features are L2-normalised, float32 (float64 is computed in float64). Collective over `peers`.

        `valid_N` (bool; None means all) marks the rows that count. Ranks may hold different N, or none.
        Raises DataError when no rank holds a valid pair.
        """
        ...
