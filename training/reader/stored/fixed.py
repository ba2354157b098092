"""Whether stored vectors may stand for the features of a locked image tower (LiT, Zhai et al., 2022): then each is
computed once, by `clipmill reinforce`, and not in every epoch."""

from pipeline.errors import RecipeError
from training.reader.reader import Reader
from training.towers.digest import image_digest
from training.towers.layers import restless
from training.towers.towers import Towers

_WHERE = "train.companions: stored.locked"


def require_fixed(reader: Reader, towers: Towers) -> None:
    """RecipeError, naming why, where a stage reads features that this image tower would not give.

    `towers`: as built for the stage, before any checkpoint: the tower is locked from the first step on."""
    if reader.replay is None or reader.replay.asked.locked is None:
        return
    if layer := next(restless(towers.image), None):
        found = f"the image tower has a {layer}: its features are others in each step, locked or not"
        raise RecipeError(_WHERE, found, "a tower without dropout and batch statistics", "leave `locked` out")
    reader.replay.require_tower(image_digest(towers))
