"""Patches and words are what open_clip's towers make of each, projected as their pooled features are."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.ranks import run_ranks
from tests.helpers.zero3 import spread_every_weight
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.reader.batch import Batch
from training.rows import Rows
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.filip import Filip
from training.terms.softmax import Softmax
from training.towers.build import build_towers
from training.towers.outputs.tokens import word_mask
from training.towers.settings import ModelSettings

VISION = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 4}
TEXT = {"context_length": 10, "vocab_size": 49408, "width": 12, "heads": 2, "layers": 1}
TEXTS = ["a cat", "two dogs in the snow and more of it than fits", "caption 7"]
WANT = frozenset({"image", "text", "patches", "words", "word_mask"})


def _config(vision=None, text=None, **more):
    return {"embed_dim": 8, "vision_cfg": VISION | (vision or {}), "text_cfg": TEXT | (text or {}), **more}


def _rows(towers, n=3) -> Rows:
    made = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (n, 3, 16, 16), generator=made, dtype=torch.uint8)
    return {"image": pixels, "tokens": towers.tokenize((TEXTS * n)[:n])}


@pytest.mark.parametrize(
    "config",
    [
        _config(),
        _config({"pool_type": "avg"}, {"proj_bias": True}, custom_text=True),
        _config({"pool_type": "avg", "final_ln_after_pool": True}, {"pool_type": "last"}, custom_text=True),
    ],
)
def test_tokens_are_projected_as_the_pooled_feature_is(config):
    towers = build_towers(ModelSettings(config=config), 3).eval()
    rows = _rows(towers)
    with torch.no_grad():
        found = towers(rows, WANT)
        alone = towers(rows)
        for tower in (towers.image, towers.text):  # the same towers by hand, up to where they pool
            tower._forward_hooks.clear()
            tower.output_tokens = True
        _, patches = towers.image(towers._pixels(rows["image"]))
        _, words = towers.text(rows["tokens"])
        if "final_ln_after_pool" in config["vision_cfg"]:
            patches = towers.image.ln_post(patches)
        projection = towers.text.text_projection
        words = projection(words) if "proj_bias" in config["text_cfg"] else words @ projection
    assert found["patches"].shape == (3, 16, 8) and found["words"].shape == (3, 10, 8)
    assert torch.allclose(found["patches"], F.normalize(patches @ towers.image.proj, dim=-1), atol=1e-6)
    assert torch.allclose(found["words"], F.normalize(words, dim=-1), atol=1e-6)
    assert torch.equal(found["image"], alone["image"]) and torch.equal(found["text"], alone["text"])
    if config["text_cfg"].get("pool_type") is None:  # the end token is one of the words, and it is the text's feature
        ends = rows["tokens"].argmax(1)
        assert torch.allclose(found["words"][torch.arange(3), ends], found["text"], atol=1e-6)
    assert found["word_mask"].sum(1).tolist() == [4, 10, 4]


def test_towers_are_asked_for_no_token_unless_one_is_wanted():
    towers = build_towers(ModelSettings(config=_config()), 3)
    asked = []
    for tower in (towers.image, towers.text):
        tower.register_forward_hook(lambda tower, _, output: asked.append((type(tower).__name__, type(output))))
    towers(_rows(towers))
    assert all(kind is torch.Tensor for _, kind in asked) and len(asked) == 2
    asked.clear()
    towers(_rows(towers), frozenset({"image", "text", "patches"}))
    assert asked == [("VisionTransformer", tuple), ("TextTransformer", torch.Tensor)]


def test_a_word_of_the_number_zero_is_no_padding():
    tokens = torch.tensor([[5, 0, 9, 0, 0], [0, 0, 0, 0, 0], [5, 6, 7, 8, 9]])
    assert word_mask(tokens).tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]


def _trained(peers, stage):
    """Losses and gradients (running means) of two steps; with stage 3 every weight is spread out, however small."""
    spread_every_weight()
    terms = [Softmax(), Filip(weight=0.5, tile=2)]
    scalars = {scalar.name: scalar for term in terms for scalar in term.scalars()}
    towers = build_towers(ModelSettings(config=_config()), 3, list(scalars.values()))
    engine = build_engine(towers, EngineSettings(zero_stage=stage, check_cache=True), AdamW(lr=1e-3), peers)
    rows, own = _rows(towers, 6), slice(6 * peers.rank // peers.world, 6 * (peers.rank + 1) // peers.world)
    rows |= {"valid": torch.ones(6, dtype=torch.bool), "id": torch.arange(6), "key": torch.arange(6)}
    uids = [f"{n:032x}" for n in range(6)][own]
    batch = Batch(0, {name: column[own] for name, column in rows.items()}, uids, TEXTS[: len(uids)], [0] * len(uids))
    losses = [cached_step(engine, batch, build_objective(terms), 2, lr=1e-3).loss for _ in range(2)]
    return losses, {name: parts["exp_avg"] for name, parts in engine.full_state() if "exp_avg" in parts}


def test_zero_3_has_the_projections_together_where_tokens_go_through_them():
    ((losses, gradients),) = run_ranks(_trained, 1, 0)
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for ours, our_gradients in run_ranks(_trained, 2, 3):
        assert ours == pytest.approx(losses, rel=1e-5)
        for name, want in gradients.items():
            assert (our_gradients[name] - want).abs().max() < 2e-5 * largest, name
