"""InfoLOOB through cache and engine: the textbook's on the whole batch, twins of a pair left out with it."""

import pytest
import torch

from tests.helpers import terms
from training.terms.infoloob import Infoloob


def textbook(features, scalars, rows):
    valid = rows["valid"]
    x, y, ids = features["image"][valid], features["text"][valid], rows["id"][valid]
    scores = scalars["log_scale"].exp() * x @ y.T
    others = scores.masked_fill(ids[:, None] == ids, -torch.inf)
    return ((others.logsumexp(1) - scores.diag()).mean() + (others.logsumexp(0) - scores.diag()).mean()) / 2


def twice(rows):
    return rows | {"id": rows["id"] // 3}


CASES = {
    "plain": terms.Case(Infoloob(tile=3), textbook),
    "twice": terms.Case(Infoloob(tile=2), textbook, prepare=twice),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


@pytest.mark.parametrize(
    ("case", "world", "stage", "counts", "chunks"),
    [
        ("twice", 2, 1, [7, 3], 3),
        pytest.param("plain", 3, 2, [4, 0, 5], 2, marks=pytest.mark.exhaustive),
        pytest.param("twice", 2, 3, [2, 6], 3, marks=pytest.mark.exhaustive),
        pytest.param("plain", 1, 0, [9], 3, marks=pytest.mark.exhaustive),
    ],
)
def test_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=3)


def test_a_pair_without_a_rival_gives_nothing():
    case = terms.Case(Infoloob(), lambda f, s, r: 0 * f["image"].sum())
    terms.check_features(case, [0, 1], masked=False)
