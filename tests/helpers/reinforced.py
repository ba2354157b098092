"""Small reinforced sets: two teachers of other widths, three views of each picture."""

import copy
from pathlib import Path

import open_clip
import torch

from pipeline.contract.reinforced.manifest import ReinforcedManifest
from pipeline.signals import StopSignals
from tests.helpers.datasets import make_dataset
from tests.helpers.tiny_run import MODEL
from training.ranks.peers import Peers
from training.reinforce.settings import ReinforceSettings
from training.reinforce.write import reinforce

SEED = 7
IMAGE = {"resize": "squash", "crop_scale": [0.3, 0.9], "flip": True}


def weights(folder: Path, seed: int = 5, **changed) -> dict:
    """A model of open_clip and its file."""
    path = folder / f"teacher-{seed}.pt"
    torch.manual_seed(seed)
    torch.save(open_clip.CLIP(**{**MODEL, **changed}).state_dict(), path)
    return {"config": copy.deepcopy({**MODEL, **changed}), "pretrained": str(path)}


def settings_of(folder: Path, **changed) -> ReinforceSettings:
    if not (folder / "data").exists():
        make_dataset(str(folder / "data"), shards=3, pairs=5)
    teachers = [{"model": weights(folder)}, {"name": "wide", "model": weights(folder, 6, embed_dim=24)}]
    given = {
        "data": [str(folder / "data")],
        "set": "dr",
        "views": 3,
        "image": IMAGE,
        "teachers": teachers,
        "batch": 7,
        "threads": 1,
    }
    return ReinforceSettings.model_validate(given | changed)


def write(settings: ReinforceSettings, peers: Peers | None = None, seed: int = SEED) -> list[ReinforcedManifest]:
    return reinforce(settings, seed=seed, peers=peers or Peers.alone(), stop=StopSignals())
