"""AdamW equals its paper in float64, under every ZeRO stage and world size; resuming is exact."""

import pytest
import torch

from tests.helpers.lanes import sampled
from tests.helpers.optimizing import RATES, held
from training.engine.optimizers.adamw import AdamW

SETTINGS = AdamW(lr=1e-2, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-4, lr_scales=RATES)


def _update(name, weights, gradient, state, lr, decay) -> None:
    """Loshchilov and Hutter, 2019, algorithm 2."""
    m = state["m"] = 0.8 * state.get("m", 0) + 0.2 * gradient
    v = state["v"] = 0.95 * state.get("v", 0) + 0.05 * gradient**2
    m, v = m / (1 - 0.8 ** state["t"]), v / (1 - 0.95 ** state["t"])
    weights -= lr * (m / (v.sqrt() + 1e-4) + decay * weights)


@pytest.mark.parametrize("world", sampled([1, 2, 3], 1))
def test_adamw_is_the_papers_under_every_stage_and_resumes_exactly(world: int) -> None:
    for kept in held(SETTINGS, _update, world):
        assert set(map(tuple, kept.values())) == {("exp_avg", "exp_avg_sq", "param"), ("buffer",)}


def test_settings_without_a_kind_are_those_of_adamw_as_they_were() -> None:
    assert (AdamW().lr, AdamW().betas, AdamW().eps, AdamW().weight_decay) == (5e-4, (0.9, 0.98), 1e-6, 0.2)


def test_it_steps_as_torchs_own_bit_for_bit() -> None:
    start = torch.randn(7, 5)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    group = {"params": [ours], "names": ["a"], "weight_decay": 0.2, "lr_scale": 1.0, "limits": None}
    guard = AdamW().build([group])
    plain = torch.optim.AdamW([theirs], 5e-4, (0.9, 0.98), 1e-6, 0.2, fused=True)
    guard.make_state([ours])
    for seed in range(4):
        ours.grad = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed))
        theirs.grad = ours.grad.clone()
        guard.step()
        plain.step()
        assert torch.equal(ours, theirs)
