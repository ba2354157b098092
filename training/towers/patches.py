"""Which patches of a picture the image tower sees in training: patch dropout (FLIP, Li et al., 2023) by keyed draws.

Letters: N rows, P patches, D width.
"""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from pipeline.errors import RecipeError

# splitmix64's (Steele et al., 2014), as signed numbers: torch has no unsigned arithmetic
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))


class KeyedPatchDropout(nn.Module):
    """In place of open_clip's or timm's: the patches kept of a row depend on its key alone, not on chunk, rank or pass.

    `looked(keys_N, share)` comes before every forward in training; int64, of the rows. Without training nothing is
    dropped. `prefix`: tokens before the patches (class token, registers), which stay.
    """

    def __init__(self, share: float, prefix: int = 1) -> None:
        super().__init__()
        self.share, self._prefix = share, prefix
        self._keys_N, self._now = torch.zeros(0, dtype=torch.int64), 0.0

    def looked(self, keys_N: Tensor, share: float) -> None:
        """How the next pictures are looked at."""
        self._keys_N, self._now = keys_N, share

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """The prefix and, of the patches, the kept ones in their order."""
        if not self.training or not self._now:
            return tokens_NTD
        kept_NK = kept_patches(self._keys_N, tokens_NTD.shape[1] - self._prefix, self._now) + self._prefix
        prefix_NT = torch.arange(self._prefix, device=kept_NK.device).expand(len(kept_NK), -1)
        where_NK = torch.cat([prefix_NT, kept_NK], dim=1)
        return tokens_NTD.gather(1, where_NK[:, :, None].expand(-1, -1, tokens_NTD.shape[2]))


def kept_patches(keys_N: Tensor, patches: int, share: float) -> Tensor:
    """int64 [N, K], rising: max(1, int(patches x (1 - share))) of the patches of each row, all sets alike likely."""
    draws_NP = _mixed(keys_N[:, None] + torch.arange(1, patches + 1, device=keys_N.device) * _STEP)
    many = max(1, int(patches * (1 - share)))
    return draws_NP.argsort(dim=1, stable=True)[:, :many].sort(dim=1).values


def keep_keyed(visual: Any, share: float) -> None:
    """Puts keyed patch dropout into an image tower. RecipeError where the tower has no place for it."""
    trunk = getattr(visual, "trunk", None)
    if isinstance(getattr(visual, "conv1", None), nn.Conv2d) and hasattr(visual, "patch_dropout"):
        visual.patch_dropout = KeyedPatchDropout(share)
    elif type(trunk) is TimmVisionTransformer:
        trunk.patch_drop = KeyedPatchDropout(share, trunk.num_prefix_tokens)  # type: ignore[assignment]
    else:
        found = f"patches to be left out of an image tower of {type(trunk or visual).__name__}"
        expected = (
            "a VisionTransformer of open_clip or timm: others draw without a key, anew in each pass, or not at all"
        )
        hint = "train.model.patch_dropout=0, and no term of masked views"
        raise RecipeError("train.model.patch_dropout", found, expected, hint)


def keyed_in(visual: nn.Module) -> KeyedPatchDropout | None:
    """The keyed patch dropout of an image tower."""
    return next((part for part in visual.modules() if isinstance(part, KeyedPatchDropout)), None)


def masked_keys(keys_N: Tensor) -> Tensor:
    """Keys of the masked view of pictures, apart from those of the pictures."""
    return _mixed(keys_N + _MIX[1][1])


def view_keys(keys_N: Tensor, owner_M: Tensor) -> Tensor:
    """Keys of flat entries, each apart from that of its row and from the others of it."""
    number_M = torch.arange(len(owner_M), device=owner_M.device) - torch.searchsorted(owner_M, owner_M)
    return _mixed(keys_N[owner_M] + (number_M + 1) * _MIX[0][1])


def _mixed(numbers: Tensor) -> Tensor:
    """int64, alike in no bit for numbers that differ by little; wraps around."""
    for shift, factor in _MIX:
        numbers = (numbers ^ _down(numbers, shift)) * factor
    return numbers ^ _down(numbers, 31)


def _down(numbers: Tensor, shift: int) -> Tensor:
    """Shifted right, zeros coming in."""
    return (numbers >> shift) & ((1 << (64 - shift)) - 1)
