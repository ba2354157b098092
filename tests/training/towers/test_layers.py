"""Layers that a step has to know about are found, whichever package they are of."""

from typing import Any

import pytest
import torch
from torch import nn

from pipeline.errors import RecipeError
from tests.helpers.tiny_run import MODEL
from tests.helpers.tiny_towers import TinyTowers
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.ranks.peers import Peers
from training.towers.build import build_towers
from training.towers.layers import batch_norms, draws_by_chunk
from training.towers.settings import ModelSettings

VIT = {"timm_model_name": "vit_tiny_patch16_224", "image_size": 32, "timm_pool": "avg"}


def towers(**vision: Any) -> nn.Module:
    with torch.device("meta"):
        return build_towers(ModelSettings(config={**MODEL, "vision_cfg": {**MODEL["vision_cfg"], **vision}}))


def timm(**vision: Any) -> nn.Module:
    with torch.device("meta"):
        return build_towers(ModelSettings(config={**MODEL, "vision_cfg": {**VIT, **vision}}))


def test_dropout_of_any_package_is_found_and_none_where_there_is_none() -> None:
    assert not draws_by_chunk(towers()) and not draws_by_chunk(timm())
    assert not draws_by_chunk(towers(patch_dropout=0.5))  # keyed by the pair
    assert draws_by_chunk(timm(timm_drop=0.1)) and draws_by_chunk(timm(timm_drop_path=0.1))
    assert draws_by_chunk(TinyTowers(dropout=0.5)) and not draws_by_chunk(TinyTowers())
    assert draws_by_chunk(nn.MultiheadAttention(4, 1, dropout=0.1)) and not draws_by_chunk(nn.MultiheadAttention(4, 1))


def test_batch_normalisation_is_found_and_refused_before_a_step() -> None:
    assert list(batch_norms(towers())) == []
    found = list(batch_norms(timm(timm_model_name="resnet18")))
    assert found[0] == "image.trunk.bn1" and len(found) == 20
    mixed = TinyTowers()
    mixed.image = nn.Sequential(mixed.image, nn.BatchNorm1d(5))
    with pytest.raises(RecipeError, match="train.model: image.1 is batch normalisation"):
        build_engine(mixed, EngineSettings(zero_stage=0), AdamW(), Peers.alone())
