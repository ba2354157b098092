"""Whether stored vectors may stand for the features of a locked image tower (LiT, Zhai et al., 2022): then each is
computed once, by `clipmill reinforce`, and not in every epoch."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pipeline.errors import RecipeError
from training.plan.plan import Plan
from training.reader.reader import Reader
from training.towers.digest import image_digest
from training.towers.towers import Towers

_WHERE = "train.companions: stored.locked"


def require_fixed(plan: Plan, step: int, reader: Reader, towers: Towers) -> None:
    """RecipeError, naming why, where the stage of `step` reads features that this image tower would not give.

    `towers`: as built for the stage, before any checkpoint: the tower was locked from the first step on."""
    if reader.replay is None or reader.replay.asked.locked is None:
        return
    before = [number for number in range(plan.number_at(step)) if not plan.every[number].model.lock_image]
    if before:
        found = f"stage {before[0]} trains the image tower, so later ones have other weights than the stored vectors"
        raise RecipeError(_WHERE, found, "an image tower locked from the run's start", "leave `locked` out")
    if restless := next((type(part).__name__ for part in towers.image.modules() if _draws(part)), None):
        found = f"the image tower has a {restless}: its features are others in each step, locked or not"
        raise RecipeError(_WHERE, found, "a tower without dropout and batch statistics", "leave `locked` out")
    reader.replay.require_tower(image_digest(towers))


def _draws(part: nn.Module) -> bool:
    share = getattr(part, "p", 0.0) if isinstance(part, _DropoutNd) else getattr(part, "drop_prob", 0.0)
    return isinstance(part, _BatchNorm) or bool(share)
