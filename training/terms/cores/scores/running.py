"""Maximum and sum of exponentials of rows, or of columns, tile after tile."""

import torch
from torch import Tensor

FLOOR = -1e30  # the maximum of nothing; finite, so that a row without rivals subtracts it without making a NaN


class Running:
    def __init__(self, top: Tensor, total: Tensor) -> None:
        self.top, self.total = top, total

    def add(self, maximum: Tensor, total: Tensor, of: Tensor) -> None:
        """A tile's maxima, and its sums of exponentials less `of`."""
        new_top = torch.maximum(self.top, maximum)
        self.total.mul_((self.top - new_top).exp_()).add_(total.mul_((of - new_top).exp_()))
        self.top.copy_(new_top)

    def fold(self, maximum: Tensor, scores_RC: Tensor, spare_RC: Tensor, dim: int) -> None:
        """A tile's maxima, and its scores."""
        new_top = torch.maximum(self.top, maximum)
        less_RC = torch.sub(scores_RC, new_top.unsqueeze(dim), out=spare_RC).exp_()
        self.total.mul_((self.top - new_top).exp_()).add_(less_RC.sum(dim))
        self.top.copy_(new_top)
