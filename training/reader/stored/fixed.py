"""Whether stored vectors may stand for the features of a locked image tower (LiT, Zhai et al., 2022): then each is
computed once, by `clipmill reinforce`, and not in every epoch."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pipeline.errors import RecipeError
from training.reader.reader import Reader
from training.towers.digest import image_digest
from training.towers.patches import KeyedPatchDropout
from training.towers.towers import Towers

_WHERE = "train.companions: stored.locked"


def require_fixed(reader: Reader, towers: Towers) -> None:
    """RecipeError, naming why, where a stage reads features that this image tower would not give.

    `towers`: as built for the stage, before any checkpoint: the tower is locked from the first step on."""
    if reader.replay is None or reader.replay.asked.locked is None:
        return
    if restless := next((type(part).__name__ for part in towers.image.modules() if _draws(part)), None):
        found = f"the image tower has a {restless}: its features are others in each step, locked or not"
        raise RecipeError(_WHERE, found, "a tower without dropout and batch statistics", "leave `locked` out")
    reader.replay.require_tower(image_digest(towers))


def _draws(part: nn.Module) -> bool:
    if isinstance(part, _BatchNorm):
        return True
    name = {_DropoutNd: "p", KeyedPatchDropout: "share"}
    found = next((word for kind, word in name.items() if isinstance(part, kind)), "drop_prob")  # timm's DropPath
    return bool(getattr(part, found, 0.0))
