"""Equal labels by hand."""

import math

import pytest
import torch

from pipeline.errors import DataError
from tests.helpers.two_pairs import LSE, loss_of
from training.terms.targets.labels import Labels


def labelled(*labels: int) -> dict:
    return {"row_fields": {"label": torch.tensor(labels)}}


def test_rows_of_equal_label_are_each_others_answers():
    assert loss_of(Labels(), **labelled(7, 7)) == pytest.approx(LSE - 0.5)
    assert loss_of(Labels(share=0.5), **labelled(7, 7)) == pytest.approx(LSE - 0.75)


@pytest.mark.parametrize("labels", [(7, 8), (-1, -1), (7, -1)])
def test_other_labels_and_none_are_not(labels):
    assert loss_of(Labels(), **labelled(*labels)) == pytest.approx(LSE - 1)


def test_in_sigmoid_the_answer_is_yes():
    assert loss_of(Labels(), "sigmoid", **labelled(7, 7)) == pytest.approx(math.log(1 + math.exp(-1)) + math.log(2))


def test_labels_that_are_not_there_are_named():
    with pytest.raises(DataError, match="'cluster'"):
        loss_of(Labels(field="cluster"), **labelled(1, 2))
