"""What a later stage cannot do is refused before the first step."""

import copy
from typing import Any

import pytest

from pipeline.errors import ClipmillError, DataError, RecipeError
from pipeline.recipe import load
from tests.helpers.tiny_run import MODEL, write_recipe
from training.reader.pairs import open_pairs
from training.settings import TrainSettings
from training.stages import check_stages

_SWIN = {"timm_model_name": "swin_tiny_patch4_window7_224", "image_size": 224, "timm_pool": "avg"}
WITH_SWIN = MODEL | {"vision_cfg": _SWIN}


def checked(tmp_path, second: dict[str, Any], **train: Any) -> None:
    stages = [{"until": 4}, {"until": 12} | second]
    settings = load(str(write_recipe(tmp_path, stages=stages, **train))).section("train", TrainSettings)
    check_stages(settings.plan, open_pairs(settings.data, str(tmp_path / "cache")), 0)


def test_stages_that_can_be_carried_out_pass(tmp_path) -> None:
    checked(tmp_path, {"model": {"image_size": 16, "context_length": 20}, "batch": {"global": 96}})
    locked = {"model": {"lock_image": True}}
    checked(tmp_path, locked, optimizer={"lr": 0.1, "lr_scales": {"image": 0.5}, "layer_decay": {"image": 0.5}})


@pytest.mark.parametrize(
    ("second", "train", "kind", "words"),
    [
        ({"batch": {"global": 97}}, {}, DataError, "hold 96 pairs"),
        ({"batch": {"global": 24}}, {"reader": {"lanes": 16}}, RecipeError, "train.reader.lanes: found 16"),
        ({"optimizer": {"lr_scales": {"imagee": 2}}}, {}, RecipeError, "no parameter under .'imagee'"),
        ({"model": {"image_size": 96}}, {"model": {"config": WITH_SWIN}}, RecipeError, "image.trunk"),
        ({"model": {"image_size": 2}}, {}, RecipeError, "stages.1.model.*smaller than patch_size"),
    ],
)  # fmt: skip
def test_what_a_later_stage_cannot_do_is_refused(tmp_path, second, train, kind, words) -> None:
    with pytest.raises(kind, match=words) as caught:
        checked(tmp_path, second, **copy.deepcopy(train))
    assert isinstance(caught.value, ClipmillError)
