"""One-hot targets by hand: p of the pair is e / (e + 1), of the other text 1 / (e + 1)."""

import math

import pytest

from tests.helpers.two_pairs import LSE, loss_of
from training.terms.targets.one_hot import OneHot


def test_without_more_it_is_the_fast_way():
    assert loss_of(OneHot()) == loss_of(None) == pytest.approx(LSE - 1)


def test_smoothing_gives_the_other_text_its_share():
    assert loss_of(OneHot(smoothing=0.2)) == pytest.approx(LSE - 0.9)


def test_margins_take_off_pairs_and_add_to_rivals():
    assert loss_of(OneHot(positive_margin=0.5)) == pytest.approx(math.log(1 + math.exp(-0.5)))
    assert loss_of(OneHot(positive_margin=0.25, negative_margin=0.5)) == pytest.approx(math.log(1 + math.exp(-0.25)))


def test_each_question_of_sigmoid_is_smoothed_by_itself():
    yes, no = math.log(1 + math.exp(-1)), math.log(2)  # a pair scores 1, another 0: yes and no are alike there
    assert loss_of(OneHot(), "sigmoid") == pytest.approx(yes + no)
    assert loss_of(OneHot(smoothing=0.2), "sigmoid") == pytest.approx(0.9 * yes + 0.1 * (yes + 1) + no)
