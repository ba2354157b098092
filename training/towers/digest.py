"""Names for weights: two models of the same digest give the same features of the same pixels."""

import hashlib
from typing import TYPE_CHECKING

from torch import nn

from pipeline.settings import digest_of

if TYPE_CHECKING:
    from training.towers.towers import Towers


def image_digest(towers: "Towers") -> str:
    """32 hex digits: of the image tower's weights, and of the size and normalisation of the pixels it is fed."""
    fed = {"size": towers.image_size, "mean": list(towers.mean), "std": list(towers.std)}
    return _digest(towers.image, digest_of(fed))


def text_digest(towers: "Towers") -> str:
    """32 hex digits: of the text tower's weights, and of the length of its texts."""
    return _digest(towers.text, str(towers.context_length))


def _digest(tower: nn.Module, besides: str) -> str:
    digest = hashlib.blake2b(besides.encode(), digest_size=16)
    for name, tensor in sorted(tower.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)} ".encode())
        digest.update(plain.reshape(-1).numpy().tobytes())
    return digest.hexdigest()
