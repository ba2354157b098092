"""LAMB equals its paper in float64 on whole parameters, under every ZeRO stage and world size; resuming is exact."""

import pytest
import torch

from tests.helpers.lanes import sampled
from tests.helpers.optimizing import RATES, by_hand, held, walked, worst
from tests.helpers.ranks import run_ranks
from training.engine.optimizers.lamb import Lamb

SETTINGS = Lamb(lr=1e-2, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-4, lr_scales=RATES)


def _update(name, weights, gradient, state, lr, decay, clip=1e9) -> None:
    """You et al., 2020, algorithm 2 with phi the identity; as in the authors' code, gains and biases are not scaled."""
    m = state["m"] = 0.8 * state.get("m", 0) + 0.2 * gradient
    v = state["v"] = 0.95 * state.get("v", 0) + 0.05 * gradient**2
    m, v = m / (1 - 0.8 ** state["t"]), v / (1 - 0.95 ** state["t"])
    step = m / (v.sqrt() + 1e-4) + decay * weights
    ratio = 1.0
    if weights.ndim > 1 and weights.norm() > 0 and step.norm() > 0:
        ratio = min(clip, (weights.norm() / step.norm()).item())
    weights -= lr * ratio * step


@pytest.mark.parametrize("world", sampled([1, 2, 3], 0))
def test_lamb_is_the_papers_under_every_stage_and_resumes_exactly(world: int) -> None:
    for kept in held(SETTINGS, _update, world):
        assert set(map(tuple, kept.values())) == {("exp_avg", "exp_avg_sq", "param"), ("buffer",)}


def test_the_ratio_is_clipped_and_no_decay_at_all_still_scales() -> None:
    settings = SETTINGS.model_copy(update={"trust_clip": 0.3, "weight_decay": 0.0})
    wanted = by_hand(settings, lambda *given: _update(*given, clip=0.3))
    free = by_hand(settings, _update)
    assert max((wanted[name] - free[name]).abs().max() for name in wanted) > 1e-3, "no ratio was above the limit"
    ((end, _, _),) = run_ranks(walked, 1, settings, [0])[0].values()
    assert worst(end, wanted) < 1e-5


def test_a_parameter_of_zeros_moves() -> None:
    weights = torch.nn.Parameter(torch.zeros(3, 2))
    group = {"params": [weights], "names": ["a"], "weight_decay": 0.2, "decays": True, "lr_scale": 1.0, "limits": None}
    guard = Lamb(lr=0.1).build([group])
    guard.make_state([weights])
    weights.grad = torch.ones(3, 2)
    guard.step()
    assert torch.allclose(weights, torch.full((3, 2), -0.1), rtol=1e-4)
