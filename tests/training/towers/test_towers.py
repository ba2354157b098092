import json
import pickle
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline.errors import RecipeError
from training.reader.images import ImageSettings, eval_image
from training.towers.build import build_towers
from training.towers.settings import ModelSettings
from training.towers.towers import Towers, native_name
from training.wanted import LOG_SCALE, Scalar

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 48, "heads": 2, "layers": 2},
}
TEXTS = ["a red square", "word " * 60]


def _features(towers: Towers, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = towers({"image": images_NCHW, "tokens": towers.tokenize(TEXTS)})
    return found["image"], found["text"]


def _towers(**changes) -> Towers:
    return build_towers(ModelSettings(config={**CONFIG, **changes}), seed=3)


def _images(n: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_features_are_unit_vectors_in_fp32_and_none_gives_none() -> None:
    towers = _towers()
    image_ND, text_ND = _features(towers, _images())
    for features in (image_ND, text_ND):
        assert features.shape == (2, 32) and features.dtype == torch.float32
        assert torch.allclose(features.norm(dim=1), torch.ones(2))
    assert set(towers({"tokens": towers.tokenize(TEXTS)})) == {"text"} and set(towers({"image": _images()})) == {
        "image"
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = towers({"image": _images()})["image"]
    assert low.dtype == torch.float32 and torch.allclose(low.norm(dim=1), torch.ones(2), atol=1e-6)
    assert towers.bfloat16()({"image": _images()})["image"].dtype == torch.float32


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    one = _towers().state_dict()
    state = torch.get_rng_state()
    two = _towers().state_dict()
    assert torch.equal(state, torch.get_rng_state())  # the caller's generator is left alone
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build_towers(ModelSettings(config=CONFIG), seed=4).state_dict()
    assert not torch.equal(one["text.positional_embedding"], other["text.positional_embedding"])


@pytest.mark.parametrize("changes", [{}, {"custom_text": True}, {"init_logit_bias": -7.0, "init_logit_scale": 1.5}])
def test_a_plain_open_clip_user_gets_the_same_features_from_the_export(changes: dict, tmp_path: Path) -> None:
    scalars = [LOG_SCALE, *([Scalar("bias", -10.0)] if "init_logit_bias" in changes else [])]
    towers = build_towers(ModelSettings(config={**CONFIG, **changes}), 3, scalars).eval()
    save_file(
        {k: v.contiguous() for k, v in towers.native_state_dict().items()}, tmp_path / "open_clip_model.safetensors"
    )
    (tmp_path / "open_clip_config.json").write_text(json.dumps(towers.open_clip_config("squash")))
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    picture = Image.radial_gradient("L").resize((90, 70)).convert("RGB")
    picture.save(tmp_path / "a.png")
    pixels = torch.from_numpy(eval_image((tmp_path / "a.png").read_bytes(), ImageSettings(resize="squash"), 32))[None]
    with torch.no_grad():
        image_ND, text_ND = _features(towers, pixels)
        logits, _ = model.eval().get_logits(preprocess(picture)[None], tokenize(TEXTS))
    ours = towers.log_scale.exp() * image_ND @ text_ND.T
    if "bias" in towers.scalars():
        assert towers.bias.item() == -7.0 and towers.log_scale.item() == 1.5
        ours = ours + towers.bias
    assert torch.allclose(ours, logits, atol=1e-4)
    fresh = towers.open_clip_model()
    assert type(fresh) is type(model) and fresh.logit_scale.ndim == 0
    assert all(torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize("size", [32, 224])
def test_a_tower_of_timm_at_another_picture_size_becomes_open_clips_own(size: int) -> None:
    """timm makes it for pictures of 224: its positions are of `size` before the weights come."""
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "linear"}
    config = {**CONFIG, "vision_cfg": {**vision, "image_size": size}}
    towers = build_towers(ModelSettings(config=config), 3).eval()
    model = towers.open_clip_model()
    assert model.visual.trunk.pos_embed.shape[1] == (size // 16) ** 2 + 1
    made = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, size, size), generator=made, dtype=torch.uint8)
    mean, std = (torch.tensor(each)[:, None, None] for each in (towers.mean, towers.std))
    with torch.no_grad():
        ours, _ = _features(towers, images)
        theirs = model.encode_image((images / 255 - mean) / std, normalize=True)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_native_names_are_those_of_open_clip_for_every_built_in_vit() -> None:
    for name in ("ViT-B-32", "ViT-L-14", "RN50"):
        config = open_clip.get_model_config(name)
        with torch.device("meta"):
            ours, native = open_clip.CustomTextCLIP(**config), open_clip.CLIP(**open_clip.get_model_config(name))
        names = {key.replace("visual.", "image.", 1) for key in ours.state_dict() if not key.startswith("logit")} | {
            "log_scale"
        }
        assert {native_name(key, False) for key in names} == set(native.state_dict())


def test_a_checkpoint_of_open_clip_is_loaded(tmp_path: Path) -> None:
    theirs = open_clip.CLIP(**CONFIG).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "epoch_1.pt")
    towers = build_towers(ModelSettings(config=CONFIG, pretrained=str(tmp_path / "epoch_1.pt"))).eval()
    tokens = towers.tokenize(TEXTS)
    assert torch.allclose(towers({"tokens": tokens})["text"], theirs.encode_text(tokens, normalize=True), atol=1e-6)
    assert towers.log_scale.shape == (1,)


def test_locked_towers_get_no_gradient() -> None:
    towers = build_towers(ModelSettings(config=CONFIG, lock_image=True))
    image_ND, text_ND = _features(towers, _images())
    assert not image_ND.requires_grad and text_ND.requires_grad


def test_gradient_checkpointing_changes_nothing_but_memory() -> None:
    grads = []
    for checkpointing in (False, True):
        towers = build_towers(ModelSettings(config=CONFIG, grad_checkpointing=checkpointing), seed=3)
        image_ND, text_ND = _features(towers, _images())
        (image_ND * text_ND).sum().backward()
        grads.append(towers.image.conv1.weight.grad)
    assert torch.allclose(*grads, atol=1e-7)


def test_the_tokenizer_keeps_the_context_length_and_survives_pickling() -> None:
    towers = _towers()
    tokens = pickle.loads(pickle.dumps(towers.tokenize))(TEXTS)
    assert tokens.shape == (2, 20) and tokens.dtype == torch.int64
    assert tokens[1, -1] == 49407  # the end token survives the cut
    assert towers.tokenize([]).shape == (0, 20)


def test_another_image_size_is_taken_over() -> None:
    towers = build_towers(ModelSettings(config=CONFIG, image_size=64))
    assert towers.image_size == 64
    assert towers({"image": _images(size=64)})["image"].shape == (2, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"config": {**CONFIG, "nonsense": 1}}, "open_clip cannot build it: .*nonsense"),
        (
            {"config": {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": 1000}}},
            "found 1000; this tokenizer makes",
        ),
        (
            {"config": {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "patch_dropout": 1.5}}},
            "patch_dropout: found 1.5",
        ),
        ({"config": CONFIG, "pretrained": "nowhere.pt"}, "'nowhere.pt' is no file and no tag"),
        ({"name": "ViT-B-32", "pretrained": "nowhere"}, "expected a file or one of openai, "),
    ],
)
def test_a_wrong_model_is_one_clear_error(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_towers(ModelSettings(**settings))


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    torch.save(open_clip.CLIP(**{**CONFIG, "embed_dim": 16}).state_dict(), tmp_path / "other.pt")
    with pytest.raises(RecipeError, match="does not fit this model"):
        build_towers(ModelSettings(config=CONFIG, pretrained=str(tmp_path / "other.pt")))


def test_one_tower_may_come_from_another_model_in_another_size(tmp_path) -> None:
    from tests.training.surgery.test_fit import TEXTS, text_of, towers

    one, other = towers(0, side=8), towers(5, side=16, context=24)
    path = tmp_path / "other.pt"
    torch.save({"state_dict": other.native_state_dict()}, path)
    mixed = build_towers(ModelSettings(config=one.config, text_pretrained=str(path)), 0).eval()
    assert torch.equal(text_of(mixed), text_of(other))
    fresh = build_towers(ModelSettings(config=one.config), 0)
    assert torch.equal(mixed.image.conv1.weight, fresh.image.conv1.weight)
    mixed = build_towers(ModelSettings(config=one.config, image_pretrained=str(path)), 0).eval()
    assert torch.equal(mixed.image.conv1.weight, other.image.conv1.weight) and len(TEXTS) == 3
    assert mixed.image.positional_embedding.shape == one.image.positional_embedding.shape
    for wrong, words in ((str(tmp_path / "none.pt"), "is no file"), (__file__, "cannot be read")):
        with pytest.raises(RecipeError, match=f"train.model.image_pretrained.*{words}"):
            build_towers(ModelSettings(config=one.config, image_pretrained=wrong), 0)
    wider = {**one.config, "text_cfg": one.config["text_cfg"] | {"width": 32}}
    with pytest.raises(RecipeError, match=r"train.model.text_pretrained: .*text\..* is "):
        build_towers(ModelSettings(config=wider, text_pretrained=str(path)), 0)
