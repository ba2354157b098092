"""A teacher's scores by hand: log 3 for a pair and 0 for others, so its shares are 3/4 and 1/4."""

import math

import pytest
import torch

from pipeline.errors import DataError
from tests.helpers.two_pairs import LSE, loss_of
from training.terms.targets.teacher import Teacher

FIELDS = {"row_fields": {"teacher.image": torch.eye(2)}, "text_fields": {"teacher.text": torch.eye(2)}}


def test_the_target_is_the_teachers_softmax():
    assert loss_of(Teacher(scale=math.log(3)), **FIELDS) == pytest.approx(LSE - 0.75)


def test_a_share_of_it_is_mixed_with_the_pair():
    assert loss_of(Teacher(scale=math.log(3), share=0.5), **FIELDS) == pytest.approx(LSE - 0.875)


def test_in_sigmoid_the_answer_is_the_teachers_yes():
    loss = loss_of(Teacher(scale=1.0, bias=-math.log(4)), "sigmoid", **FIELDS)
    # Of the other text the teacher says yes with 1/5: its score there is -log 4; a score of 0 makes yes and no alike.
    assert loss == pytest.approx(math.log(1 + math.exp(-1)) + math.log(2))


def test_the_teachers_bias_moves_its_yes():
    bias = torch.full((1,), 0.5, dtype=torch.float64)
    loss = loss_of(Teacher(scale=1.0, bias=-math.log(4)), "sigmoid", bias=bias, **FIELDS)
    assert loss == pytest.approx(math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(0.5)) - 0.5 / 5)


def test_a_queue_without_teacher_vectors_is_named():
    with pytest.raises(DataError, match="queue"):
        loss_of(Teacher(), queue_ED=torch.ones(1, 2, dtype=torch.float64), **FIELDS)
