"""Towers of another model, or of another run, with their weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import recipe as recipes
from pipeline.errors import RecipeError
from pipeline.outputs import CHECKPOINTS, RECIPE
from training.checkpoint.save import Found, find, load_weights, open_checkpoint
from training.checkpoint.tensors import TensorReader
from training.ranks.peers import Peers
from training.towers.build import build_towers
from training.towers.settings import ModelSettings
from training.wanted import LOG_SCALE, Scalar

if TYPE_CHECKING:
    from training.towers.towers import Towers

_WHERE = "train.companions: teacher"


def frozen_towers(model: ModelSettings | None, checkpoint: str | None, peers: Peers) -> "Towers":
    """The towers of `model`, or of the run that wrote `checkpoint`, with the weights of the one or the other.

    RecipeError when there is no such run, DataError when its checkpoint is damaged or of another model. Collective.
    """
    if checkpoint is None:
        assert model is not None, "settings ask for one of the two"
        return build_towers(model)
    found = _found(Path(checkpoint), peers)
    names = TensorReader(found.complete.tensor_files).names()
    scalars = [name.removeprefix("param/") for name in names if name.startswith("param/") and "." not in name]
    asked = [LOG_SCALE, *(Scalar(name, 0.0) for name in scalars if name != LOG_SCALE.name)]
    towers = build_towers(model or _model_of(found), 0, asked)
    load_weights(towers, found)
    return towers


def _found(path: Path, peers: Peers) -> Found:
    if path.name.startswith("step-"):
        return open_checkpoint(path, peers)
    found = find(path / CHECKPOINTS, peers)
    if found is None:
        raise RecipeError(_WHERE, f"{path} has no checkpoint", "the output folder of a training run, or of a step")
    return found


def _model_of(found: Found) -> ModelSettings:
    path = found.complete.folder.parent.parent / RECIPE
    train = recipes.load(str(path)).data.get("train") if path.is_file() else None
    if not isinstance(train, dict) or "model" not in train:
        raise RecipeError(_WHERE, f"{path} names no model", "`model`, as in the recipe of that run")
    model = ModelSettings.model_validate(train["model"])
    return model.model_copy(update={"pretrained": None, "lock_image": False, "lock_text": False})
