"""What a forward and a backward do, against textbook counts and torch's own accounting of a real one."""

from typing import Any

import pytest
import torch

from training.costs.model import Model
from training.settings import TrainSettings

CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 48, "heads": 3, "layers": 3},
}
N = 6


def settings_of(
    precision: str = "fp32", loss: Any = None, config: dict[str, Any] = CONFIG, **model: Any
) -> TrainSettings:
    plain = {
        "data": ["x"], "output": "y", "steps": 3, "model": {"config": config, **model},
        "loss": loss or {"kind": "softmax"},
        "batch": {"global": 2 * N, "chunk": N}, "engine": {"precision": precision, "zero_stage": 0},
    }  # fmt: skip
    return TrainSettings.model_validate(plain)


def block_flops(length: int, width: int) -> int:
    """Of one transformer block: queries, keys, values, output, two layers of an MLP four times as wide; attention."""
    return 2 * length * width * width * (4 + 8) + 4 * length * length * width


def tower_flops(config: dict[str, Any] = CONFIG) -> int:
    """Of a pair, matrix products alone."""
    vision, text, out = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    stem = 2 * patches * vision["width"] * 3 * vision["patch_size"] ** 2
    image = stem + vision["layers"] * block_flops(patches + 1, vision["width"]) + 2 * vision["width"] * out
    length = text["context_length"]
    return image + text["layers"] * block_flops(length, text["width"]) + 2 * text["width"] * out


def test_flops_of_a_forward_are_the_textbooks() -> None:
    passes = Model(settings_of()).passes(N)
    assert passes.plain.flops == passes.forward.flops == N * tower_flops()


def test_a_backward_costs_two_forwards_and_a_little_attention_less_the_stem() -> None:
    """Nobody asks for the gradient of pixels; attention makes its scores a second time."""
    passes = Model(settings_of()).passes(N)
    vision = CONFIG["vision_cfg"]
    stem = 2 * 16 * vision["width"] * 3 * vision["patch_size"] ** 2
    scores = 2 * 4 * 17 * 17 * 64 // 2 + 3 * 4 * 12 * 12 * 48 // 2  # of all blocks, one product
    assert passes.backward.flops == N * (2 * tower_flops() - stem + scores)


def test_a_locked_tower_has_no_backward() -> None:
    whole, locked = (Model(settings_of(lock_image=lock)).passes(N) for lock in (False, True))
    assert locked.forward.flops == whole.forward.flops
    assert locked.backward.flops < 0.7 * whole.backward.flops and locked.kept < 0.7 * whole.kept


def test_checkpointing_computes_a_forward_once_more_and_keeps_less() -> None:
    """All of it but what no backward needs: torch stops where it has what was asked for."""
    plain, again = (Model(settings_of(grad_checkpointing=on)).passes(N) for on in (False, True))
    blocks = N * (2 * block_flops(17, 64) + 3 * block_flops(12, 48))
    assert 0.6 * blocks < again.backward.flops - plain.backward.flops <= blocks
    assert again.kept < 0.3 * plain.kept


def real(settings: TrainSettings) -> tuple[int, int]:
    """(bytes that autograd saves, most that torch's allocator held beside what was there before) of a real chunk."""
    from training.engine.body import Body

    towers = settings.towers(0)
    body, made = Body(towers, settings.engine.precision).train(), torch.Generator().manual_seed(0)
    size = CONFIG["vision_cfg"]["image_size"]
    rows = {
        "image": torch.randint(0, 256, (N, 3, size, size), generator=made, dtype=torch.uint8),
        "tokens": torch.randint(1, 49000, (N, 12), generator=made),
        "key": torch.arange(N),
    }
    given = {
        tensor.untyped_storage().data_ptr() for tensor in (*rows.values(), *towers.parameters(), *towers.buffers())
    }
    for parameter in towers.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    saved: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)  # kept alive: no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = body(rows, frozenset({"image", "text"}))
    kept = sum(one.untyped_storage().nbytes() for address, one in saved.items() if address not in given)
    del found
    saved.clear()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        found = body(rows, frozenset({"image", "text"}))
        sum(column.sum() for column in found.values()).backward()
    held = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return kept, peak


@pytest.mark.parametrize(
    "given",
    [{}, {"precision": "bf16"}, {"grad_checkpointing": True}, {"patch_dropout": 0.5}, {"lock_text": True}],
    ids=str,
)
def test_activations_are_those_that_torch_counts_of_a_real_chunk(given: dict[str, Any]) -> None:
    """What is kept to a hundredth; the peak within a quarter: kernels have memory of their own."""
    settings = settings_of(**given)
    passes = Model(settings).passes(N)
    kept, peak = real(settings)
    assert passes.kept == pytest.approx(kept, rel=0.01)
    assert passes.peak == pytest.approx(peak, rel=0.25)


def test_activations_grow_with_the_chunk_alone() -> None:
    model = Model(settings_of())
    few, many = model.passes(8), model.passes(16)
    assert many.kept == pytest.approx(2 * few.kept, rel=0.1) and many.forward.flops == 2 * few.forward.flops


def test_further_texts_of_a_pair_are_computed_too() -> None:
    loss = {"kind": "softmax", "positives": 2, "target": {"kind": "captions"}}
    one, three = Model(settings_of()).passes(N), Model(settings_of(loss=loss)).passes(N)
    text = CONFIG["text_cfg"]
    of_texts = text["layers"] * block_flops(12, text["width"]) + 2 * text["width"] * CONFIG["embed_dim"]
    assert three.forward.flops - one.forward.flops == N * 2 * of_texts
    assert three.outputs == 2 * one.outputs  # an image and three texts, where there were one of each


def test_towers_of_timm_are_looked_at_too() -> None:
    vision = {"image_size": 32, "timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False}
    config = {**CONFIG, "vision_cfg": vision}
    passes = Model(settings_of(config=config)).passes(N)
    trunk = 12 * block_flops(5, 192) + 2 * 4 * 192 * 3 * 16**2
    text = CONFIG["text_cfg"]
    texts = text["layers"] * block_flops(12, text["width"]) + 2 * text["width"] * 32
    assert passes.forward.flops == pytest.approx(N * (trunk + texts), rel=0.02)
