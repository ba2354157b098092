"""Rows that do not count leave with their texts, and shapes that do not fit are named."""

import pytest
import torch

from training.terms.cores.interface import Problem
from training.terms.cores.problem.valid import valid_of


def test_texts_go_with_their_rows_and_owners_are_counted_anew():
    image, text = torch.arange(4.0)[:, None], torch.arange(8.0)[:, None]
    owner = torch.tensor([0, 1, 2, 3, 1, 3, -1, 2])
    valid = torch.tensor([True, False, True, True])
    problem, kept = valid_of(Problem(image, text, torch.zeros(1), owner_M=owner, valid_N=valid))
    assert problem.text_MD[:, 0].tolist() == [0, 2, 3, 5, 6, 7]
    assert problem.owner_M.tolist() == [0, 1, 2, 2, -1, 1]
    d_image, d_text = kept.restored(problem.image_ND, problem.text_MD)
    assert d_image[:, 0].tolist() == [0, 0, 2, 3] and d_text[:, 0].tolist() == [0, 0, 2, 3, 0, 5, 6, 7]


def test_without_owners_extra_texts_are_nobodys():
    problem, _ = valid_of(Problem(torch.ones(2, 3), torch.ones(4, 3), torch.zeros(1)))
    assert problem.owner_M.tolist() == [0, 1, -1, -1]


@pytest.mark.parametrize("wrong", ["text_weight_M", "image_weight_N", "valid_N", "ids_N", "owner_M"])
def test_shapes_that_do_not_fit_are_named(wrong):
    with pytest.raises(ValueError, match=wrong):
        valid_of(Problem(torch.ones(3, 4), torch.ones(3, 4), torch.ones(1), **{wrong: torch.ones(2)}))
