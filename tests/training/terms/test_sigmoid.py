"""SigLIP's loss through recipe, cache and engine: the textbook's on the whole batch."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import terms
from training.terms.sigmoid import Sigmoid


def siglip(features, scalars, rows):
    valid = rows["valid"]
    scores = scalars["log_scale"].exp() * features["image"][valid] @ features["text"][valid].T + scalars["bias"]
    signs = 2 * torch.eye(len(scores), dtype=scores.dtype) - 1
    return -F.logsigmoid(signs * scores).sum() / len(scores)


CASES = [terms.Case(Sigmoid(tile=3), siglip), terms.Case(Sigmoid(tile=5, exchange="ring"), siglip)]


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(case, counts, masked)


@pytest.mark.parametrize(("world", "stage", "counts", "chunks"), [(1, 0, [9], 2), (2, 3, [3, 6], 3)])
def test_five_steps_walk_the_path_of_plain_torch(world, stage, counts, chunks):
    terms.check_steps(CASES[0], world, stage, counts, chunks, steps=5)
