"""Towers keep their function where surgery says so: open_clip towers of other sizes, holding the fitted weights."""

import copy

import pytest
import torch

from pipeline.errors import RecipeError
from tests.helpers.tiny_run import MODEL
from training.surgery.fit import can_fit, fitted
from training.towers.build import build_towers
from training.towers.settings import ModelSettings

TEXTS = ["a", "two words", "a red square left of it"]


def towers(seed: int = 0, context: int = 24, side: int = 8, patch: int = 4, vision: dict | None = None):
    config = copy.deepcopy(MODEL)
    config["text_cfg"]["context_length"] = context
    config["vision_cfg"] |= {"image_size": side, "patch_size": patch}
    if vision:
        config["vision_cfg"] = vision | {"image_size": side}
    return build_towers(ModelSettings(config=config), seed).eval()


def shapes(of) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in of.state_dict().items()}


def text_of(of) -> torch.Tensor:
    with torch.no_grad():
        return of.text(of.tokenize(TEXTS))


def test_the_same_size_gives_the_very_same_tensors_and_features() -> None:
    one, other = towers(0), towers(1)
    state = one.state_dict()
    again = fitted(state, shapes(other))
    assert all(again[name] is state[name] for name in state)
    other.load_state_dict(again)
    assert torch.equal(text_of(one), text_of(other))


@pytest.mark.parametrize("context", [60, 12])
def test_short_texts_give_what_they_gave_after_a_stretch_that_keeps_the_first_and_after_a_cut(context: int) -> None:
    one, other = towers(0), towers(1, context)
    other.load_state_dict(fitted(one.state_dict(), shapes(other), "keep_first"))
    assert torch.allclose(text_of(one), text_of(other), atol=1e-6)
    other.load_state_dict(fitted(one.state_dict(), shapes(other), "interpolate"))
    assert torch.allclose(text_of(one), text_of(other), atol=1e-6) == (context == 12)


@pytest.mark.parametrize(
    "vision",
    [None, {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear"},
     {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8}],
    ids=["open_clip", "timm", "resnet"],
)  # fmt: skip
def test_image_towers_of_every_sort_take_another_size(vision) -> None:
    small, large = (64, 96) if vision else (8, 16)
    one, other = towers(0, side=small, vision=vision), towers(1, side=large, vision=vision)
    state = fitted(one.state_dict(), shapes(other))
    changed = [name for name, tensor in state.items() if tensor is not one.state_dict()[name]
               and tensor.shape != one.state_dict()[name].shape]  # fmt: skip
    assert len(changed) == 1 and "pos" in changed[0]
    other.load_state_dict(state)
    back = fitted(other.state_dict(), shapes(one))
    assert back[changed[0]].shape == one.state_dict()[changed[0]].shape
    with torch.no_grad():
        assert other.image(torch.randn(2, 3, large, large)).isfinite().all()


def test_what_no_rule_reaches_is_refused_with_the_reason() -> None:
    one = towers(0)
    with pytest.raises(RecipeError, match="another patch size"):
        fitted(one.state_dict(), shapes(towers(0, patch=2)))
    wider = shapes(one) | {"text.token_embedding.weight": (7, 16)}
    with pytest.raises(RecipeError, match=r"token_embedding.*\n?.*vocabulary is kept"):
        fitted(one.state_dict(), wider)
    with pytest.raises(RecipeError, match="image.ln_post.weight"):
        can_fit(shapes(one), shapes(one) | {"image.ln_post.weight": (3,)})
    with pytest.raises(RecipeError, match="1 tensors are missing"):
        fitted(one.state_dict(), shapes(one) | {"image.more": (3,)})
    can_fit(shapes(one), shapes(towers(0, 60, 16)))
