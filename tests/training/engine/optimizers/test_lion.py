"""Lion equals its paper in float64, under every ZeRO stage and world size; resuming is exact."""

import pytest
import torch

from tests.helpers.lanes import sampled
from tests.helpers.optimizing import RATES, held
from training.engine.optimizers.lion import Lion

SETTINGS = Lion(lr=1e-3, weight_decay=2.0, betas=(0.7, 0.95), lr_scales=RATES)
margins = []


def _update(name, weights, gradient, state, lr, decay) -> None:
    """Chen et al., 2023, algorithm 2 (program 1)."""
    m = state.get("m", torch.zeros_like(gradient))
    blend = 0.7 * m + 0.3 * gradient
    margins.append(blend[blend != 0].abs().min().item() / gradient.abs().max().item())
    weights -= lr * (blend.sign() + decay * weights)
    state["m"] = 0.95 * m + 0.05 * gradient


@pytest.mark.parametrize("world", sampled([1, 2, 3], 0))
def test_lion_is_the_papers_under_every_stage_and_resumes_exactly(world: int) -> None:
    for kept in held(SETTINGS, _update, world, 1e-6, least=2e-4):
        assert set(map(tuple, kept.values())) == {("exp_avg", "param"), ("buffer",)}
    assert min(margins) > 1e-5, "a sign that float32 cannot tell: choose another seed"
