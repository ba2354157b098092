"""CoCa's towers and decoder: open_clip's outputs, and its training on the whole batch, however the batch was cut."""

import copy
import functools
import math

import open_clip
import pytest
import torch

from pipeline.errors import RecipeError
from tests.helpers.lanes import sampled
from tests.helpers.ranks import run_ranks
from tests.helpers.simulated import run_simulated
from tests.helpers.zero3 import spread_every_weight
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.reader.batch import Batch
from training.settings import TrainSettings
from training.step.grad_cache import cached_step
from training.step.objective import build_objective
from training.terms.caption import Caption
from training.terms.softmax import Softmax
from training.towers.build import build_towers
from training.towers.outputs.coca import completed, draw_head
from training.towers.settings import ModelSettings
from training.towers.towers import Towers

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 8, "layers": 1, "width": 24, "head_width": 8, "patch_size": 4, "attentional_pool": True,
        "attn_pooler_heads": 2, "attn_pooler_queries": 5,
    },
    "text_cfg": {
        "context_length": 7, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "embed_cls": True,
    },
    "multimodal_cfg": {"width": 16, "heads": 2, "layers": 2},
}  # fmt: skip
PLAIN = {**CONFIG, "vision_cfg": {"image_size": 8, "layers": 1, "width": 16, "head_width": 8, "patch_size": 4}}
WORDS = 61
TEXTS = ["a cat", "two dogs in the snow and more", "caption 7", "x", "red", "a green tree by a lake"]
# eps: the key's bias has a gradient of nothing but rounding, of which Adam would make steps
OPTIMIZER = AdamW(lr=3e-3, weight_decay=0.1, eps=1e-3)
WANT = frozenset({"image", "text", "caption_logits"})


def _towers(config=CONFIG, seed=3, **more):
    return build_towers(ModelSettings(config=config, **more), seed)


def _rows(towers, step=0):
    made = torch.Generator().manual_seed(step)
    pixels = torch.randint(0, 256, (6, 3, 8, 8), generator=made, dtype=torch.uint8)
    valid = torch.arange(6) != 1
    rows = {"image": pixels, "valid": valid, "id": torch.arange(6), "key": valid * 1}
    return rows | ({} if towers is None else {"tokens": towers.tokenize(TEXTS)})


def _open_clip(config=CONFIG):
    """The native model by open_clip's own loader of configs, with the weights of `_towers(config)`."""
    towers = _towers(config)
    sections = {name: dict(config[name]) for name in ("vision_cfg", "text_cfg", "multimodal_cfg")}
    for name in ("vision_cfg", "text_cfg"):
        sections[name]["output_tokens"] = True
    model = open_clip.CoCa(embed_dim=config["embed_dim"], **sections)
    model.load_state_dict(towers.native_state_dict())
    return towers, model


@pytest.mark.parametrize("config", [CONFIG, PLAIN])
def test_outputs_are_those_of_open_clips_coca(config):
    towers, model = _open_clip(config)
    rows = _rows(towers)
    with torch.no_grad():
        found, theirs = towers.eval()(rows, WANT), model.eval()(towers._pixels(rows["image"]), rows["tokens"])
        alone = towers(rows)
    assert torch.allclose(found["image"], theirs["image_features"], atol=1e-6)
    assert torch.allclose(found["text"], theirs["text_features"], atol=1e-6)
    assert found["caption_logits"].shape == (6, 6, 49408)
    assert torch.allclose(found["caption_logits"], theirs["logits"], atol=1e-5)
    assert torch.equal(alone["image"], found["image"]) and set(alone) == {"image", "text"}
    assert type(towers.open_clip_model()) is open_clip.CoCa


def test_nothing_is_captioned_where_no_term_wants_it():
    towers, calls = _towers(), []
    towers.decoder.register_forward_hook(lambda *_: calls.append(1))
    towers.image.register_forward_hook(lambda tower, _, output: calls.append(type(output)))
    towers(_rows(towers))
    assert calls == [torch.Tensor]


def test_every_weight_comes_from_the_seed_the_decoders_last_layer_too():
    _dirty = [torch.full((16, 49408), math.nan) for _ in range(3)]
    del _dirty
    one, two = _towers().state_dict(), _towers().state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["decoder.text_projection"].std().item() == pytest.approx(16**-0.5, rel=0.02)


def test_decoder_and_towers_recompute_under_gradient_checkpointing():
    grads = []
    for more in ({}, {"grad_checkpointing": True}):
        towers = _towers(**more)
        assert towers.decoder.grad_checkpointing is bool(more)
        towers(_rows(towers), frozenset({"caption_logits"}))["caption_logits"].square().mean().backward()
        grads.append(towers.image.conv1.weight.grad)
    assert torch.allclose(*grads, rtol=1e-5, atol=1e-8) and grads[0].abs().max() > 0


@functools.cache
def _drawn():
    """Towers of 61 words, which no tokenizer has, so that many steps are cheap; once, for ranks that are threads."""
    config = copy.deepcopy(CONFIG)
    config["text_cfg"]["vocab_size"] = WORDS
    completed(config)
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        model = open_clip.CoCa(**{name: copy.deepcopy(part) for name, part in config.items() if name != "custom_text"})
        draw_head(model)
    return Towers(model, config, None, (0.4, 0.5, 0.5), (0.2, 0.3, 0.3))


def _small():
    return copy.deepcopy(_drawn())


def _small_rows(step):
    """Six pairs, one of which does not count; texts of two to seven tokens between a begin and an end token."""
    made = torch.Generator().manual_seed(step)
    tokens = torch.randint(1, WORDS - 2, (6, 7), generator=made)
    tokens[:, 0], ends = WORDS - 2, 1 + (torch.arange(6) + step) % 6
    tokens[torch.arange(6), ends] = WORDS - 1
    tokens[torch.arange(7) > ends[:, None]] = 0
    return _rows(None, step) | {"tokens": tokens}


def _steps(peers, stage, counts, chunks, steps):
    if stage == 3:
        spread_every_weight()
    towers = _small()
    engine = build_engine(towers, EngineSettings(zero_stage=stage, check_cache=True), OPTIMIZER, peers)
    objective = build_objective([Softmax(), Caption(weight=2.0)])
    own, values, first = slice(sum(counts[: peers.rank]), sum(counts[: peers.rank + 1])), [], {}
    for step in range(steps):
        rows = {name: column[own] for name, column in _small_rows(step).items()}
        size = len(rows["valid"])
        batch = Batch(step, rows, [f"{n:032x}" for n in range(6)][own], TEXTS[own], [0] * size)
        result = cached_step(engine, batch, objective, math.ceil(max(counts) / chunks), OPTIMIZER.lr)
        values.append((result.loss, result.metrics["caption/loss"]))
        state = first or dict(engine.full_state())
        first = first or {name: parts["exp_avg"] / (1 - OPTIMIZER.betas[0]) for name, parts in state.items()}
    return values, first, {name: parts["param"] for name, parts in engine.full_state()}


@functools.cache
def _plainly(steps):
    """open_clip's CoCa and CoCaLoss in float64 and torch's AdamW, on the valid pairs of the whole batch."""
    towers = _small()
    model = towers.open_clip_model().double().train()
    named = dict(model.named_parameters())
    groups = [{"params": [p], "weight_decay": OPTIMIZER.weight_decay if p.ndim > 1 else 0.0} for p in named.values()]
    optimizer = torch.optim.AdamW(groups, lr=OPTIMIZER.lr, betas=OPTIMIZER.betas, eps=OPTIMIZER.eps)
    loss, values, first = open_clip.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0), [], {}
    for step in range(steps):
        rows = _small_rows(step)
        kept = rows["valid"]
        found = model(towers._pixels(rows["image"])[kept].double(), rows["tokens"][kept])
        clip, caption = loss(**{name: value for name, value in found.items()})
        optimizer.zero_grad()
        (clip + caption).backward()
        values.append(((clip + caption).item(), caption.item() / 2))
        first = first or {name: parameter.grad.clone() for name, parameter in named.items()}
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
    return values, first, {name: parameter.detach() for name, parameter in named.items()}


def _ours(name):
    for theirs, ours in (("visual.", "image."), ("text_decoder.", "decoder."), ("logit_scale", "log_scale")):
        name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
    return name


SHARES = [
    (1, 0, (6,), 3), (2, 0, (4, 2), 2), (3, 0, (3, 0, 3), 2), (4, 0, (1, 2, 1, 2), 1), (2, 3, (4, 2), 2),
    (3, 2, (3, 0, 3), 2), (4, 1, (1, 2, 1, 2), 1), (2, 2, (2, 4), 2), (3, 3, (1, 2, 3), 3),
]  # fmt: skip


@pytest.mark.parametrize(("world", "stage", "counts", "chunks"), sampled(SHARES, 0, 1, 4))
def test_five_steps_are_those_of_open_clip_with_its_coca_loss(world, stage, counts, chunks):
    values, gradients, weights = _plainly(5)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    found = (run_ranks if stage else run_simulated)(_steps, world, stage, counts, chunks, 5)
    for our_values, ours, our_weights in found:
        assert [x for pair in our_values for x in pair] == pytest.approx([x for pair in values for x in pair], rel=2e-5)
        for name, want in gradients.items():
            assert (ours[_ours(name)].double().view_as(want) - want).abs().max() < 2e-5 * largest, name
            got = our_weights[_ours(name)].double().view_as(want)
            assert torch.allclose(got, weights[name], rtol=1e-4, atol=2e-5), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "hf_model_name: found 'roberta-base' with a text decoder"),
        ({"text_cfg": {"no_causal_mask": True}}, "no_causal_mask: found True .* a causal text transformer"),
        ({"vision_cfg": {"layers": [1, 1, 1, 1]}}, "vision_cfg: is of timm or a ResNet"),
        ({"multimodal_cfg": {"width": 24, "heads": 2}}, "multimodal_cfg.width: found 24; text_cfg.width, 16"),
        ({"multimodal_cfg": {"heads": 5}}, "multimodal_cfg.heads: found 5; a divisor of its width 16"),
        ({"embed_dim": 24}, "multimodal_cfg.width: found 16; embed_dim, 24"),
    ],
)
def test_a_coca_that_would_fail_in_its_first_forward_is_refused_when_the_recipe_is_read(changes, words):
    more = {name: CONFIG[name] | part if isinstance(part, dict) else part for name, part in changes.items()}
    with pytest.raises(RecipeError, match=words):
        ModelSettings(config={**CONFIG, **more})


def test_a_wrong_key_and_a_name_with_a_foreign_text_tower_are_refused_too():
    with pytest.raises(ValueError, match="multimodal_cfg has the unknown key 'layer'; did you mean `layers`"):
        ModelSettings(config={**CONFIG, "multimodal_cfg": {"width": 16, "heads": 2, "layer": 1}})
    with pytest.raises(RecipeError, match="hf_model_name: found 'roberta-base'"):
        ModelSettings(name="coca_roberta-ViT-B-32")
    ModelSettings(name="coca_ViT-B-32")


@pytest.mark.parametrize(
    ("model", "loss", "words"),
    [
        ({"config": CONFIG}, [{"kind": "softmax"}], "a text decoder, and no term to train it"),
        ({"name": "ViT-B-32"}, [{"kind": "softmax"}, {"kind": "caption"}], "no text decoder, and a term"),
        ({"name": "coca_ViT-B-32"}, [{"kind": "filip"}, {"kind": "caption"}], "pools by attention"),
    ],
)
def test_decoder_and_term_come_together(model, loss, words):
    train = {"data": ["x"], "output": "y", "steps": 1, "batch": {"global": 4}, "model": model, "loss": loss}
    with pytest.raises(RecipeError, match=f"train.model: .*{words}"):
        TrainSettings.model_validate(train)


def test_another_context_length_is_the_decoders_too():
    towers = _towers(context_length=12)
    assert towers.config["multimodal_cfg"]["context_length"] == 12 == towers.decoder.context_length
    rows = {"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "tokens": towers.tokenize(["word " * 30])}
    assert towers(rows, WANT)["caption_logits"].shape == (1, 11, 49408)
