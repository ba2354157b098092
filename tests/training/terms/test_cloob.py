"""CLOOB through cache and engine: the textbook's on the whole batch."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import terms
from training.terms.cloob import Cloob


def recalled(states, stored, beta):
    return F.normalize((beta * states @ stored.T).softmax(1) @ stored, dim=1)


def loob(rows, others, ids, scale):
    scores = scale * rows @ others.T
    return (scores.masked_fill(ids[:, None] == ids, -torch.inf).logsumexp(1) - scores.diag()).mean()


def textbook(features, scalars, rows, scale=30.0, beta=8.0):
    valid = rows["valid"]
    x, y, ids = features["image"][valid], features["text"][valid], rows["id"][valid]
    i2t = loob(recalled(x, x, beta), recalled(y, x, beta), ids, scale)
    t2i = loob(recalled(y, y, beta), recalled(x, y, beta), ids, scale)
    return (i2t + t2i) / scale


def mild(features, scalars, rows):
    return textbook(features, scalars, rows, 5.0, 2.0)


CASES = {
    "plain": terms.Case(Cloob(tile=3), textbook),
    "mild": terms.Case(Cloob(tile=64, scale=5, beta=2), mild),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


@pytest.mark.parametrize(
    ("case", "world", "stage", "counts", "chunks"),
    [
        ("plain", 2, 3, [7, 3], 2),
        pytest.param("mild", 3, 1, [4, 0, 5], 2, marks=pytest.mark.exhaustive),
        pytest.param("plain", 2, 2, [2, 6], 3, marks=pytest.mark.exhaustive),
        pytest.param("mild", 1, 0, [9], 3, marks=pytest.mark.exhaustive),
    ],
)
def test_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=3)
