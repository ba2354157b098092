"""Muon equals its paper in float64 on whole matrices, under every ZeRO stage and world size; resuming is exact."""

import math

import pytest
import torch

from tests.helpers.lanes import sampled
from tests.helpers.optimizing import RATES, held
from training.engine.optimizers.muon import Muon
from training.engine.update.muon import orthogonal

SETTINGS = Muon(
    lr=1e-2, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-4, lr_scales=RATES, momentum=0.9, iterate_in="fp32"
)
MATRICES = (".in_proj_weight", ".conv.weight")


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Jordan et al., 2024: the quintic applied to the singular values themselves, as exact arithmetic would."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / matrix.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ values.diag() @ right


def _update(name, weights, gradient, state, lr, decay) -> None:
    if not (name.endswith(MATRICES) and ".blocks." in name):
        m = state["m"] = 0.8 * state.get("m", 0) + 0.2 * gradient
        v = state["v"] = 0.95 * state.get("v", 0) + 0.05 * gradient**2
        m, v = m / (1 - 0.8 ** state["t"]), v / (1 - 0.95 ** state["t"])
        weights -= lr * (m / (v.sqrt() + 1e-4) + decay * weights)
        return
    m = state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    way = (0.1 * gradient + 0.9 * m).reshape(len(gradient), -1)  # Nesterov
    parts = way.chunk(3 if "in_proj" in name else 1)
    step = torch.cat([_orthogonal(part) * 0.2 * math.sqrt(max(part.shape)) for part in parts])
    weights *= 1 - lr * decay
    weights -= lr * step.reshape(weights.shape)


@pytest.mark.parametrize("world", sampled([1, 2, 3], 1))
def test_muon_is_the_description_under_every_stage_and_resumes_exactly(world: int) -> None:
    for kept in held(SETTINGS, _update, world, 2e-5):
        matrices = {name for name, parts in kept.items() if parts == ["momentum_buffer", "param"]}
        assert len(matrices) == 6 and all(name.endswith(MATRICES) for name in matrices)


@pytest.mark.parametrize(("scale", "theirs"), [("rms", "match_rms_adamw"), ("shape", "original")])
@pytest.mark.parametrize("nesterov", [True, False])
def test_whole_matrices_go_as_torchs_muon_takes_them(scale: str, theirs: str, nesterov: bool) -> None:
    for shape in ((8, 5), (5, 8), (6, 6)):
        start = torch.randn(shape)
        ours, other = (torch.nn.Parameter(start.clone()) for _ in range(2))
        group = {"params": [ours], "names": ["a"], "weight_decay": 0.2, "lr_scale": 1.0, "limits": None, "matrix": True}
        guard = Muon(lr=0.02, scale=scale, nesterov=nesterov).build([group])
        guard.make_state([ours])
        plain = torch.optim.Muon([other], 0.02, 0.2, momentum=0.95, nesterov=nesterov, adjust_lr_fn=theirs)
        for _ in range(4):
            ours.grad = torch.randn(shape)
            other.grad = ours.grad.clone()
            guard.step()
            plain.step()
            assert (ours - other).abs().max() < 1e-3  # bf16 iterations


def test_singular_values_end_near_one_and_no_gradient_gives_no_step() -> None:
    for shape in ((12, 5), (5, 12)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape), 5, torch.float32))
        assert 0.5 < values.min() and values.max() < 1.3
    assert torch.equal(orthogonal(torch.zeros(4, 3), 5, torch.float32), torch.zeros(4, 3))
