"""Patch dropout: keyed by row, so that chunks, groups and passes see the same patches; nothing is dropped outside."""

import math

import pytest
import torch

from pipeline.errors import RecipeError
from tests.helpers.lanes import sampled
from tests.training.towers.test_towers import CONFIG
from training.towers.build import build_towers
from training.towers.patches import kept_patches, masked_keys, view_keys
from training.towers.settings import ModelSettings

FINE = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "patch_size": 4}}


def towers(share, config=FINE):
    return build_towers(ModelSettings(config=config, patch_dropout=share), seed=3)


def rows(n=6):
    made = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=made)
    keys = torch.randint(-(2**63), 2**63 - 1, (n,), generator=made)
    owner = torch.arange(n).repeat_interleave(2)
    return {"image": images, "key": keys, "views/image": images[owner], "views/owner": owner}


@torch.no_grad()
def features(model, batch, want=frozenset({"image"})):
    return model(batch, want)


def test_the_tower_computes_on_the_kept_patches_and_their_positions():
    model, batch = towers(0.7).train(), rows()
    visual = model.image
    kept = kept_patches(batch["key"], 64, 0.7)
    assert kept.shape == (6, 19)
    pixels = model._pixels(batch["image"])
    with torch.no_grad():
        patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([visual.class_embedding.expand(6, 1, -1), patches], 1) + visual.positional_embedding
        seen = [one[[0, *(1 + k for k in keep)]] for one, keep in zip(tokens, kept.tolist(), strict=True)]
        tokens = torch.stack(seen)
        want = visual.ln_post(visual.transformer(visual.ln_pre(tokens)))[:, 0] @ visual.proj
    want = torch.nn.functional.normalize(want, dim=1)
    assert torch.allclose(features(model, batch)["image"], want, atol=1e-5)


def test_a_row_keeps_its_patches_in_any_chunk_and_beside_any_group():
    model, batch = towers(0.5).train(), rows()
    whole = features(model, batch)["image"]
    for row in range(6):
        alone = {"image": batch["image"][row : row + 1], "key": batch["key"][row : row + 1]}
        assert torch.allclose(features(model, alone)["image"], whole[row : row + 1], atol=1e-6)
    both = features(model, batch, frozenset({"image", "views/image"}))
    assert torch.allclose(both["image"], whole, atol=1e-6)
    half = {name: column[6:] if name.startswith("views") else column[3:] for name, column in batch.items()}
    half["views/owner"] = half["views/owner"] - 3
    views = features(model, half, frozenset({"views/image"}))["views/image"]
    assert torch.allclose(views, both["views/image"][6:], atol=1e-6)
    first, second = both["views/image"][0::2], both["views/image"][1::2]  # of the same pixels: other patches
    assert all((a - b).abs().max() > 1e-4 for a, b in ((first, second), (first, whole), (second, whole)))


def test_evaluation_and_the_exported_model_drop_nothing():
    model, batch = towers(0.5), rows()
    plain = features(towers(0.0).eval(), batch)["image"]
    assert torch.equal(features(model.eval(), {"image": batch["image"]})["image"], plain)
    assert "patch_dropout" not in model.open_clip_config()["model_cfg"]["vision_cfg"]
    exported = model.open_clip_model().train()
    with torch.no_grad():
        again = torch.nn.functional.normalize(exported.visual(model._pixels(batch["image"])), dim=1)
    assert torch.allclose(again, plain, atol=1e-6)


def test_every_patch_is_as_likely_and_sets_are_independent_of_near_keys():
    keys = torch.arange(4000)  # keys that differ by little
    kept = torch.zeros(4000, 16).scatter_(1, kept_patches(keys, 16, 0.5), 1.0)
    sigma = math.sqrt(0.25 / 4000)
    assert kept.sum(1).eq(8).all() and (kept.mean(0) - 0.5).abs().max() < 5 * sigma
    together = kept[1:].T @ kept[:-1] / 3999  # of one row and the next
    assert (together - 0.25).abs().max() < 6 * math.sqrt(0.25 * 0.75 / 4000)
    within = kept.T @ kept / 4000
    within.fill_diagonal_(0.5 * 7 / 15)
    assert (within - 0.5 * 7 / 15).abs().max() < 6 * sigma
    owner = torch.tensor([0, 0, 1, 1, 1])
    assert len(set(view_keys(torch.tensor([5, 6]), owner).tolist()) | {5, 6}) == 7


@pytest.mark.parametrize(("patches", "share", "kept"), [(16, 0.5, 8), (10, 0.99, 1), (7, 0.5, 3)])
def test_as_many_are_kept_as_open_clip_keeps(patches, share, kept):
    assert kept_patches(torch.arange(2), patches, share).shape == (2, kept)


def timm(name, **more):
    return {**CONFIG, "vision_cfg": {"image_size": 32, "timm_model_name": name, "timm_proj": "linear", **more}}


def test_towers_that_draw_without_a_key_are_refused():
    resnet = {**CONFIG, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}}
    for config in (resnet, timm("eva02_tiny_patch14_224", timm_pool="token", image_size=28), timm("resnet18")):
        with pytest.raises(RecipeError, match="VisionTransformer of open_clip or timm"):
            towers(0.5, config)


TIMM = [("vit_tiny_patch16_224", "token", 1), ("vit_little_patch16_reg4_gap_256", "avg", 4)]


@pytest.mark.parametrize(("name", "pool", "prefix"), sampled(TIMM, 0))
def test_timms_tower_computes_on_the_kept_patches_and_their_positions(name, pool, prefix):
    """Its own positions, blocks and pooling, on the tokens that are kept."""
    model, batch = towers(0.5, timm(name, timm_pool=pool)).train(), rows(3)
    trunk, kept = model.image.trunk, kept_patches(batch["key"], 4, 0.5)
    with torch.no_grad():
        tokens = trunk._pos_embed(trunk.patch_embed(model._pixels(batch["image"])))
        assert tokens.shape[1] == 4 + prefix
        seen = [
            one[[*range(prefix), *(prefix + k for k in keep)]] for one, keep in zip(tokens, kept.tolist(), strict=True)
        ]
        found = trunk.norm(trunk.blocks(trunk.norm_pre(torch.stack(seen))))
        want = torch.nn.functional.normalize(model.image.head(trunk.forward_head(found)), dim=1)
    got = features(model, batch)["image"]
    assert torch.allclose(got, want, atol=1e-5)
    alone = {"image": batch["image"][1:2], "key": batch["key"][1:2]}
    assert torch.allclose(features(model, alone)["image"], got[1:2], atol=1e-5)
    plain = features(towers(0.0, timm(name, timm_pool=pool)).eval(), batch)["image"]
    assert torch.equal(features(model.eval(), batch)["image"], plain) and (got - plain).abs().max() > 1e-3
    assert "patch_dropout" not in model.open_clip_config()["model_cfg"]["vision_cfg"]


def masking(share, dropped=0.0):
    return build_towers(ModelSettings(config=FINE, patch_dropout=dropped), seed=3, masked=share)


def test_a_masked_view_lacks_patches_where_the_picture_is_seen_whole():
    model, batch, want = masking(0.7).train(), rows(), frozenset({"image", "masked", "views/masked"})
    found, plain = features(model, batch, want), features(towers(0.0), batch)["image"]
    assert torch.allclose(found["image"], plain, atol=1e-6)
    keys = {"key": masked_keys(batch["key"])}  # what it keeps is drawn apart from what the picture itself may lose
    assert not (kept_patches(keys["key"], 64, 0.7) == kept_patches(batch["key"], 64, 0.7)).all(1).any()
    assert torch.allclose(found["masked"], features(towers(0.7).train(), batch | keys)["image"], atol=1e-6)
    both = features(masking(0.7, 0.5).train(), batch, want)
    assert torch.allclose(both["masked"], found["masked"], atol=1e-6)
    assert torch.allclose(both["image"], features(towers(0.5).train(), batch)["image"], atol=1e-6)
    assert found["views/masked"].shape == (12, 32)
    assert all((found["views/masked"][n] - found["masked"][n // 2]).abs().max() > 1e-4 for n in range(12))
    assert torch.equal(features(model, batch)["image"], found["image"])  # a look at all of it after a masked one
    assert torch.allclose(features(model.eval(), batch)["image"], plain, atol=1e-6)


def test_a_masked_view_trains_the_tower():
    model, batch = masking(0.5).train(), rows()
    model(batch, frozenset({"masked"}))["masked"][:, 0].sum().backward()
    assert model.image.conv1.weight.grad.abs().max() > 0
