"""Which parameter moves at which rate and which decays: hand-made tables of names."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from pipeline.errors import RecipeError
from tests.helpers.optimizing import DeepTowers
from tests.helpers.tiny_towers import TinyTowers
from training.engine.optimizers.adamw import AdamW
from training.engine.optimizers.muon import Muon
from training.engine.update.groups import groups_of


def found(towers: nn.Module, settings) -> dict[str, dict]:
    return {
        name: group | {"parameter": parameter}
        for group in groups_of(towers, settings)
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }


def test_only_matrices_decay_and_rates_follow_the_longest_prefix() -> None:
    towers = TinyTowers()
    settings = AdamW(lr=1.0, weight_decay=0.2, lr_scales={"image": 0.1, "image.5": 0.5})
    groups = groups_of(towers, settings)
    optimizer = settings.build(groups)
    optimizer.set_lr(2.0)
    by_name = {name: group for group in optimizer.param_groups for name in group["names"]}
    rates = {name: (group["weight_decay"], group["lr"]) for name, group in by_name.items()}
    assert rates["image.1.weight"] == (0.2, 0.2) and rates["image.5.weight"] == (0.2, 1.0)
    assert rates["image.1.bias"] == (0.0, 0.2) and rates["image.3.weight"] == (0.0, 0.2)
    assert rates["text.0.weight"] == (0.2, 2.0) and rates["log_scale"] == (0.0, 2.0)
    assert len(rates) == len(dict(towers.named_parameters()))
    assert by_name["log_scale"]["limits"] == towers.limits["log_scale"] and len(by_name["log_scale"]["names"]) == 1
    assert all(group["limits"] is None for name, group in by_name.items() if name != "log_scale")


def test_layers_decay_from_the_top_of_each_tower_and_scales_multiply() -> None:
    settings = AdamW(layer_decay={"image": 0.5, "text": 0.9}, lr_scales={"image.stem": 0.1, "text": 2.0})
    rates = {name: group["lr_scale"] for name, group in found(DeepTowers(), settings).items()}
    wanted = {
        "image.proj": 1.0, "image.ln_post.weight": 1.0, "image.blocks.1.conv.bias": 0.5,
        "image.blocks.0.norm.weight": 0.25, "image.stem.weight": 0.1 * 0.125, "text.proj": 2.0,
        "text.blocks.0.in_proj_weight": 1.8, "text.stem.weight": 2 * 0.81, "log_scale": 1.0,
    }  # fmt: skip
    for name, rate in wanted.items():
        assert rates[name] == pytest.approx(rate), name


class _Named(nn.Module):
    limits: ClassVar[dict[str, tuple[float, float]]] = {}

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = getattr(module, part)
            module.register_parameter(last, nn.Parameter(torch.zeros(3, 3)))


def test_embeddings_may_be_kept_from_decaying() -> None:
    names = {
        "positions": ["image.positional_embedding", "image.trunk.pos_embed", "text.transformer.embeddings."
                      "position_embeddings.weight"],
        "class_tokens": ["image.trunk.cls_token", "text.cls_emb"],
        "tokens": ["text.token_embedding.weight", "text.transformer.embeddings.word_embeddings.weight"],
        "": ["image.conv1.weight", "text.text_projection", "image.blocks.0.attn.proj.weight"],
    }  # fmt: skip
    towers = _Named([name for every in names.values() for name in every])
    for exempt in ([], ["positions"], ["class_tokens", "tokens"], ["positions", "class_tokens", "tokens"]):
        groups = found(towers, AdamW(no_decay=exempt))
        for kind, listed in names.items():
            for name in listed:
                assert groups[name]["weight_decay"] == (0.0 if kind in exempt else 0.2), name


def test_muon_takes_the_matrices_in_blocks_alone() -> None:
    towers = _Named(["text.blocks.0.attn.weight", "text.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                     "text.embeddings.weight", "text.proj"])  # fmt: skip
    taken = {name for name, group in found(towers, Muon()).items() if group["matrix"]}
    assert taken == {"text.blocks.0.attn.weight"}
    assert not any(group["matrix"] for group in found(towers, AdamW()).values())
    assert [Muon().is_matrix(shape) for shape in ((3,), (4, 1, 3, 3), (4, 3, 3, 3), (1, 5), (4, 1, 1))] == [
        False, False, True, False, False,
    ]  # fmt: skip


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(RecipeError, match="imagee"):
        groups_of(TinyTowers(), AdamW(lr_scales={"imagee": 0.1}))
    with pytest.raises(RecipeError, match="layer_decay.image.*no blocks"):
        groups_of(TinyTowers(), AdamW(layer_decay={"image": 0.5}))
    with pytest.raises(RecipeError, match="every parameter is locked"):
        groups_of(TinyTowers().requires_grad_(False), AdamW())
