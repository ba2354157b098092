"""Both cores against open_clip's losses, where there is one; and never a tensor larger than a tile or the features."""

import math
from dataclasses import replace

import open_clip
import open_clip.loss
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from training.ranks.peers import Peers
from training.terms.cores import CORES, CoreOutput, Problem, sigmoid, softmax
from training.terms.cores.exchange import EXCHANGES
from training.terms.targets import TARGETS


def made(rows: int = 50, width: int = 16, dtype: torch.dtype = torch.float64) -> Problem:
    seeded = torch.Generator().manual_seed(0)
    image, text = F.normalize(torch.randn(2, rows, width, generator=seeded, dtype=torch.float64), dim=-1).to(dtype)
    return Problem(image, text, torch.tensor([math.log(20.0)], dtype=dtype), torch.tensor([-5.0], dtype=dtype))


def leaves_of(problem: Problem) -> list[Tensor]:
    given = (problem.image_ND, problem.text_MD, problem.log_scale, problem.bias)
    return [tensor.clone().requires_grad_() for tensor in given]


def agree(output: CoreOutput, value: Tensor, leaves: list[Tensor]) -> None:
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    assert torch.allclose(output.value, value, rtol=1e-12)
    ours = (output.d_image_ND, output.d_text_MD, output.d_log_scale, output.d_bias)
    for one, other in zip(ours, found, strict=True):
        assert torch.allclose(one, torch.zeros_like(one) if other is None else other, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_softmax_is_open_clips_loss(exchange):
    problem = made()
    image, text, log_scale, bias = leaves = leaves_of(problem)
    value = open_clip.ClipLoss()(image, text, log_scale.exp())
    agree(softmax(problem, None, Peers.alone(), exchange=exchange, tile=16), value, leaves)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_sigmoid_is_open_clips_loss(exchange):
    problem = made()
    image, text, log_scale, bias = leaves = leaves_of(problem)
    value = open_clip.loss.SigLipLoss()(image, text, log_scale.exp(), bias)
    agree(sigmoid(problem, None, Peers.alone(), exchange=exchange, tile=16), value, leaves)


def test_a_teacher_target_is_open_clips_distillation():
    problem, teacher = made(), made(width=24)
    image, text, log_scale, bias = leaves = leaves_of(problem)
    loss = open_clip.loss.DistillClipLoss()
    parts = loss(image, text, log_scale.exp(), teacher.image_ND, teacher.text_MD, torch.tensor(30.0), output_dict=True)
    fields = {"row_fields": {"teacher.image": teacher.image_ND}, "text_fields": {"teacher.text": teacher.text_MD}}
    target = TARGETS["teacher"](scale=30.0)
    output = softmax(replace(problem, **fields), target, Peers.alone(), tile=16)
    agree(output, parts["distill_loss"], leaves)


class LargestTensor(TorchDispatchMode):
    """Remembers the most bytes that the memory of any operation's result had."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(part, Tensor):
                self.largest = max(self.largest, part.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("core", CORES)
def test_no_tensor_is_larger_than_two_tiles_or_the_features(core, exchange):
    rows, width, tile = 700, 8, 64
    problem = made(rows, width, torch.float32)
    with LargestTensor() as seen:
        CORES[core](problem, None, Peers.alone(), exchange=exchange, tile=tile)
    assert seen.largest <= max(2 * tile * tile * 4, 2 * rows * width * 4)  # some pieces are summed up in float64
    with LargestTensor() as seen:
        CORES[core](problem, None, Peers.alone(), exchange=exchange, tile=rows)
    assert seen.largest >= rows * rows * 4, "the probe sees a B x B matrix where there is one"
