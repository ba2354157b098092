"""Position embeddings for other sizes of picture and other lengths of text. Pure functions of tensors.

Letters: P positions, D width, L tokens.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import RecipeError

Stretch = Literal["keep_first", "interpolate"]
KEPT = 20
"""The positions that `keep_first` leaves alone: few captions of CLIP's are longer (Long-CLIP, Zhang et al., 2024)."""


def resized_grid(positions_PD: Tensor, wanted: int) -> Tensor:
    """A square grid of positions behind tokens of no place (the class token, registers), for `wanted` positions.

    Bicubic with antialiasing, as open_clip and timm do it; the tokens in front are kept. RecipeError: no grid fits.
    """
    found = len(positions_PD)
    if found == wanted:
        return positions_PD
    front = next((n for n in range(min(found, wanted)) if _side(found - n) and _side(wanted - n)), None)
    if front is None:
        expected = "a square grid behind tokens of no place, before and after"
        raise RecipeError("train.model.image_size", f"{found} and {wanted} positions", expected)
    old, new = _side(found - front), _side(wanted - front)
    grid_1DHW = positions_PD[front:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized_1DHW = F.interpolate(grid_1DHW.float(), (new, new), mode="bicubic", antialias=True, align_corners=False)
    grid_PD = resized_1DHW.permute(0, 2, 3, 1).reshape(new * new, -1).to(positions_PD.dtype)
    return torch.cat([positions_PD[:front], grid_PD])


def _side(cells: int) -> int:
    """The side of a square of so many cells; 0 when there is none."""
    side = math.isqrt(max(cells, 0))
    return side if side * side == cells else 0


def stretched(positions_LD: Tensor, wanted: int, mode: Stretch) -> Tensor:
    """The positions of texts of `wanted` tokens: the first ones when that is fewer, else stretched.

    `keep_first` leaves the first 20 alone, so that a causal tower gives short texts what it gave them before, and
    stretches the others (Long-CLIP: 77 to 248 are 20 and 57 x 4); `interpolate` stretches all. Between two positions
    straight lines; behind the last one the line of the last two goes on.
    """
    found = len(positions_LD)
    if wanted <= found:
        return positions_LD[:wanted]
    kept = min(KEPT, found - 2) if mode == "keep_first" else 0
    if found < 2 or kept < 0:
        raise RecipeError("train.model.config.text_cfg.context_length", f"{found} positions", "at least 2 to stretch")
    at = kept + torch.arange(wanted - kept, dtype=torch.float64) * (found - kept) / (wanted - kept)
    left = at.floor().long().clamp(max=found - 2)
    share = (at - left).to(positions_LD)[:, None]
    rest = positions_LD[left] * (1 - share) + positions_LD[left + 1] * share
    return torch.cat([positions_LD[:kept], rest])
