"""The `model` section: what open_clip would refuse when every rank builds it is refused when the recipe is read."""

import pytest
from pydantic import ValidationError

from pipeline.errors import RecipeError
from training.towers.settings import ModelSettings, check_trainable

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 48, "heads": 2, "layers": 2}


def config(vision: dict | None = None, text: dict | None = None, **more: object) -> dict:
    return {"embed_dim": 32, "vision_cfg": {**VISION, **(vision or {})}, "text_cfg": {**TEXT, **(text or {})}, **more}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give exactly one of `name`"),
        ({"name": "ViT-B-32", "config": config()}, "give exactly one of `name`"),
        ({"config": config(), "patch_dropout": 1.0}, "patch_dropout"),
        ({"name": "ViT-B-33"}, r"open_clip knows no model 'ViT-B-33'; did you mean `ViT-B-\d\d`\?"),
        ({"name": "a tower of babel"}, "open_clip knows no model 'a tower of babel'"),
        ({"config": {"embed_dim": 4}}, "config.vision_cfg is None; expected a mapping"),
        ({"config": {"embed_dim": 4, "vision_cfg": VISION, "text_cfg": 3}}, "config.text_cfg is 3"),
        ({"config": config(embed_dim=0)}, "config.embed_dim is 0; expected a whole number"),
        ({"config": config(embed_dim=True)}, "config.embed_dim is True"),
        ({"config": config({"patch_size": 0})}, "config.vision_cfg.patch_size is 0"),
        ({"config": config({"patch_size": 64})}, "image_size 32 is smaller than patch_size 64"),
        ({"config": config(), "image_size": 8}, "image_size 8 is smaller than patch_size 16"),
        ({"config": config({"head_width": 48})}, "config.vision_cfg.head_width 48 does not divide width 64"),
        ({"config": config(text={"heads": 5})}, "config.text_cfg.heads 5 does not divide width 48"),
        ({"config": config({"image_size": [32, 16]})}, r"config.vision_cfg.image_size is \[32, 16\]"),
        ({"config": config({"patchsize": 16})}, "unknown key 'patchsize'; did you mean `patch_size`"),
        ({"config": config(text={1: 2})}, "config.text_cfg has the unknown key 1"),
    ],
)
def test_a_model_that_open_clip_would_refuse_is_refused_with_the_key(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSettings(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"config": config()},
        {"config": config({"image_size": [32, 32]})},
        {"config": config({"layers": [1, 1, 1, 1]})},  # a ResNet: its sizes follow other rules
        {"config": config({"timm_model_name": "vit_tiny_patch16_224", "patch_size": 0})},  # timm says the sizes
        {"name": "ViT-B-32"},
        {"name": "local-dir:/somewhere/else"},  # open_clip's own schemes are its own business
    ],
)
def test_a_model_that_open_clip_would_build_is_let_through(settings: dict) -> None:
    ModelSettings(**settings)


@pytest.mark.parametrize(
    "settings", [{"name": "RN50"}, {"name": "RN101-quickgelu"}, {"config": config({"layers": [1, 1, 1, 1]})}]
)
def test_towers_with_batch_normalisation_are_not_trained(settings: dict) -> None:
    with pytest.raises(RecipeError, match="train.model: .*batch normalisation; .*chunk") as caught:
        check_trainable(ModelSettings(**settings))
    assert "ViT" in caught.value.hint


def test_towers_of_layer_normalisation_are() -> None:
    for name in ("ViT-B-32", "convnext_base", "local-dir:/somewhere/else", "ViT-B-16-SigLIP"):
        check_trainable(ModelSettings(name=name))
    check_trainable(ModelSettings(config=config()))
