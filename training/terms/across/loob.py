"""InfoLOOB (Poole et al., 2019) of one direction."""

import torch
from torch import Tensor

from training.terms.across.everyone import Everyone
from training.terms.across.lse import dots, rivals_lse
from training.terms.across.sums import all_mean


def left_out(rows_ND: Tensor, others_ND: Tensor, log_scale: Tensor, everyone: Everyone, tile: int) -> Tensor:
    """The mean over rows of log sum_j exp(s_ij) - s_ii, j over the other pairs; a row without one gives 0."""
    own_N = (rows_ND * others_ND).sum(1) * log_scale.exp()
    lse_N = rivals_lse(dots, (rows_ND,), (others_ND,), (log_scale,), everyone, tile)
    return all_mean(torch.where(lse_N > -torch.inf, lse_N - own_N, 0.0), everyone)
