"""Every loss of the table gives the exact gradients of its textbook form, however rows are shared out, masked or cut.

A new loss is picked up from the table; its textbook form goes into `tests/helpers/textbook.py` under its kind.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers.simulated import run_simulated
from tests.helpers.textbook import VALUES
from tests.helpers.tiny_towers import TinyTowers, tiny_batch
from training.engine.build import build_engine
from training.engine.optimizers.adamw import AdamW
from training.engine.settings import EngineSettings
from training.losses import LOSSES
from training.losses.loss import Loss, LossOutput
from training.ranks.peers import Peers
from training.step.grad_cache import cached_step

KINDS = sorted(LOSSES)
SHARES = [[7], [4, 3], [5, 0, 4]]  # rows of each rank: even, ragged, none


def loss_of(kind: str) -> Loss:
    """With tiles smaller than the rows, where the loss has tiles."""
    fields = LOSSES[kind].model_fields
    return LOSSES[kind](**({"tile": 3} if "tile" in fields else {}))


def scalars(kind: str) -> tuple[Tensor, Tensor | None]:
    wants_bias = "init_bias" in LOSSES[kind].model_fields
    return torch.tensor([math.log(9.0)]).double(), torch.tensor([-2.5]).double() if wants_bias else None


def want(kind: str, image_BD: Tensor, text_BD: Tensor, valid_B: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients by autograd on the whole batch in one process."""
    log_scale, bias = scalars(kind)
    leaves = [image_BD.clone(), text_BD.clone(), log_scale, *([bias] if bias is not None else [])]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    value = VALUES[kind](leaves[0][valid_B], leaves[1][valid_B], leaves[2], leaves[3] if bias is not None else None)
    return value.detach(), list(torch.autograd.grad(value, leaves))


def test_every_loss_has_a_textbook_form():
    lacking = set(LOSSES) - set(VALUES)
    assert not lacking, f"add the textbook form of {sorted(lacking)} to VALUES in tests/helpers/textbook.py"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("counts", SHARES)
@pytest.mark.parametrize("kind", KINDS)
def test_any_world_gives_the_gradients_of_the_whole_batch(kind: str, counts: list[int], masked: bool) -> None:
    made = torch.Generator().manual_seed(len(counts))
    image_BD, text_BD = F.normalize(torch.randn(2, sum(counts), 5, generator=made, dtype=torch.float64), dim=-1)
    valid_B = torch.arange(sum(counts)) % 4 != 1 if masked else torch.ones(sum(counts), dtype=torch.bool)
    log_scale, bias = scalars(kind)

    def on_rank(peers: Peers) -> LossOutput:
        own = slice(sum(counts[: peers.rank]), sum(counts[: peers.rank + 1]))
        return loss_of(kind)(image_BD[own], text_BD[own], log_scale, bias, valid_B[own], peers)

    outputs = run_simulated(on_rank, len(counts))
    value, (d_image_BD, d_text_BD, d_scale, *d_bias) = want(kind, image_BD, text_BD, valid_B)
    for output in outputs:
        assert output.pairs == int(valid_B.sum())
        assert output.loss.item() == pytest.approx(value.item(), rel=1e-10)
        assert torch.allclose(output.d_scale, d_scale, rtol=1e-9, atol=1e-12)
        assert not d_bias or torch.allclose(output.d_bias, d_bias[0], rtol=1e-9, atol=1e-12)
    assert torch.allclose(torch.cat([output.d_image_ND for output in outputs]), d_image_BD, rtol=1e-9, atol=1e-12)
    assert torch.allclose(torch.cat([output.d_text_ND for output in outputs]), d_text_BD, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk", [12, 5, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_the_cached_step_gives_every_parameter_the_gradient_of_the_whole_batch(kind: str, chunk: int) -> None:
    def towers() -> TinyTowers:
        made = TinyTowers(dtype=torch.float64)
        bias = scalars(kind)[1]
        made.bias = None if bias is None else torch.nn.Parameter(bias)
        return made

    optimizer = AdamW()
    engine = build_engine(towers(), EngineSettings(zero_stage=0, check_cache=True), optimizer, Peers.alone())
    batch = tiny_batch(12, every_valid=False)
    result = cached_step(engine, batch, loss_of(kind), chunk, lr=1e-3)
    whole = towers()
    image_BD, text_BD = whole(batch.images_NCHW[batch.valid_N], batch.tokens_NL[batch.valid_N])
    value = VALUES[kind](image_BD, text_BD, whole.log_scale, whole.bias)
    value.backward()
    assert result.loss == pytest.approx(value.item(), rel=1e-9)
    wanted = dict(whole.named_parameters())
    for name, tensors in engine.full_state():
        if "exp_avg" in tensors:
            got = tensors["exp_avg"] / (1 - optimizer.betas[0])
            assert torch.allclose(got.double(), wanted[name].grad, rtol=1e-6, atol=1e-10), name
