"""Similarity within a modality by hand: log 3 with itself and 0 with the other, so shares are 3/4 and 1/4."""

import math

import pytest
import torch

from pipeline.errors import DataError
from tests.helpers.two_pairs import LSE, loss_of
from training.terms.targets.similarity import Similarity


@pytest.mark.parametrize("of", ["image", "text"])
def test_those_alike_are_partly_each_others_answers(of):
    assert loss_of(Similarity(of=of, scale=math.log(3), share=0.5)) == pytest.approx(LSE - 0.875)
    same = {"image_ND": torch.ones(2, 2).double(), "text_MD": torch.ones(2, 2).double()}
    assert loss_of(Similarity(of=of, share=1.0), **same) == pytest.approx(math.log(2))


def test_stored_vectors_may_say_what_is_alike():
    fields = {"row_fields": {"old": torch.ones(2, 3)}}
    assert loss_of(Similarity(field="old", share=1.0), **fields) == pytest.approx(LSE - 0.5)


def test_what_has_no_image_or_no_text_is_refused():
    more = torch.ones(3, 2, dtype=torch.float64)
    with pytest.raises(DataError, match="nobody"):
        loss_of(Similarity(of="image"), text_MD=more)
    with pytest.raises(DataError, match="queue"):
        loss_of(Similarity(of="text"), queue_ED=more)
