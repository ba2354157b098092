"""Several texts of an image by hand."""

import math

import pytest
import torch

from tests.helpers.two_pairs import LSE, loss_of
from training.terms.targets.captions import Captions

TEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
ALONE = {"image_ND": TEXTS[:1], "text_MD": TEXTS[:2], "owner_M": torch.tensor([0, 0])}
BOTH = {"text_MD": TEXTS, "owner_M": torch.tensor([0, 1, 0])}  # image 0 has texts 0 and 2, which scores 0


def test_texts_of_one_image_share_its_target():
    # No rival: log-sum-exp of 1 and 0 less their mean, and nothing from text to image.
    assert loss_of(Captions(), **ALONE) == pytest.approx((LSE - 0.5) / 2)
    i2t = (math.log(math.e + 2) - 0.5 + math.log(2 * math.e + 1) - 1) / 2
    t2i = (LSE - 1 + LSE - 1 + LSE - 0) / 3
    assert loss_of(Captions(), **BOTH) == pytest.approx((i2t + t2i) / 2)


def test_or_each_counts_as_if_it_were_the_only_one():
    assert loss_of(Captions(among="each"), **ALONE) == 0
    first = (LSE - 1 + math.log(2)) / 2  # its texts against text 1: scores 1 and 0 against 0
    second = math.log(2 * math.e + 1) - 1  # text 1 against both texts of the other image: 1 against 0 and 1
    t2i = (LSE - 1 + LSE - 1 + LSE - 0) / 3
    assert loss_of(Captions(among="each"), **BOTH) == pytest.approx(((first + second) / 2 + t2i) / 2)
