"""The softmax core where numbers are hard: today's bits, learnt pairs, wide spreads, anything in masked rows."""

import math

import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import DataError
from tests.helpers.contrast import check, softmax_parts, whole_of
from training.ranks.peers import Peers
from training.terms.cores import Problem, softmax


def pair(rows: int, width: int, dtype: torch.dtype = torch.float32, near: float = 0.0) -> tuple:
    made = torch.Generator().manual_seed(rows)
    image, text = torch.randn(2, rows, width, generator=made, dtype=torch.float64)
    return F.normalize(image, dim=-1).to(dtype), F.normalize(text + near * image, dim=-1).to(dtype)


def test_learnt_pairs_keep_their_digits_in_float32():
    """At s = 100 and cosines of 1 against 0.8, p_ii rounds to 1 in float32, yet loss and gradient keep their digits."""
    image = F.normalize(torch.eye(8, dtype=torch.float64) + 0.6, dim=-1).float()
    problem = Problem(image, image, torch.tensor([math.log(100)]))
    whole = whole_of([problem])
    value = sum(softmax_parts(whole)) / 2
    assert 0 < value < 1e-6
    output = softmax(problem, None, Peers.alone(), tile=3)
    assert abs(output.value - value) < 1e-3 * value
    d_image = torch.autograd.grad(value, whole.images[0])[0]
    assert (output.d_image_ND - d_image).abs().max() < 1e-3 * d_image.abs().max()


@pytest.mark.parametrize("size", [1e-20, 1.0, 30.0, 1e4, 1e12])
def test_features_of_any_size_have_finite_gradients(size):
    """Rows whose best scores lie far apart take the way of two exponentials."""
    image, text = pair(40, 8)
    image = image * torch.logspace(-3, 0, 40)[:, None] * size
    output = softmax(Problem(image, text, torch.tensor([math.log(100)])), None, Peers.alone(), tile=16)
    assert output.value.isfinite()
    assert output.d_image_ND.isfinite().all() and output.d_text_MD.isfinite().all() and output.d_log_scale.isfinite()


@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0, 1000.0])
def test_wide_spreads_lose_no_digit_in_float64(spread):
    image, text = pair(30, 8, torch.float64)
    image = image * torch.logspace(-2, 0, 30, dtype=torch.float64)[:, None] * spread
    problem = Problem(image, text, torch.tensor([1.0], dtype=torch.float64))
    whole = whole_of([problem])
    check([softmax(problem, None, Peers.alone(), tile=7)], whole, softmax_parts(whole), tolerance=1e-12)


def test_masked_rows_may_hold_anything_and_get_zero():
    image, text = pair(6, 4)
    image[2], text[4] = torch.nan, torch.inf
    valid = torch.tensor([True, True, False, True, False, True])
    output = softmax(Problem(image, text, torch.ones(1), valid_N=valid), None, Peers.alone())
    assert output.value.isfinite() and output.metrics["pairs"] == 4
    for gradient in (output.d_image_ND, output.d_text_MD):
        assert gradient.isfinite().all()
        assert (gradient[~valid] == 0).all() and (gradient[valid] != 0).all()


def test_a_nan_feature_makes_the_loss_nan_rather_than_hiding():
    image, text = pair(6, 4)
    image[2, 0] = torch.nan
    assert softmax(Problem(image, text, torch.ones(1)), None, Peers.alone()).value.isnan()


def test_nothing_valid_anywhere_is_an_error():
    problem = Problem(*pair(3, 4), torch.ones(1), valid_N=torch.zeros(3, dtype=torch.bool))
    with pytest.raises(DataError, match="no valid pair"):
        softmax(problem, None, Peers.alone())


def test_a_tie_is_a_miss():
    image = torch.tensor([[1.0, 0.0]]).repeat(4, 1)
    output = softmax(Problem(image, image, torch.zeros(1)), None, Peers.alone())
    assert output.metrics["acc_i2t"] == 0 and output.value.item() == pytest.approx(math.log(4))
