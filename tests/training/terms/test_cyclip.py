"""CyCLIP's consistencies through cache and engine: the textbook's on the whole batch."""

import pytest

from tests.helpers import terms
from training.terms.cyclip import Cyclip


def textbook(features, scalars, rows, cross=1.0, inside=1.0):
    valid = rows["valid"]
    x, y = features["image"][valid], features["text"][valid]
    crossed = (x @ y.T - y @ x.T).square().sum() / len(x)
    within = (x @ x.T - y @ y.T).square().sum() / len(x)
    return cross * crossed + inside * within


def weighted(features, scalars, rows):
    return textbook(features, scalars, rows, 0.25, 0.7)


CASES = {
    "plain": terms.Case(Cyclip(), textbook),
    "weighted": terms.Case(Cyclip(cross_modal=0.25, in_modal=0.7), weighted),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


@pytest.mark.parametrize(
    ("case", "world", "stage", "counts", "chunks"),
    [
        ("weighted", 2, 3, [6, 3], 2),
        pytest.param("plain", 3, 1, [4, 0, 5], 2, marks=pytest.mark.exhaustive),
        pytest.param("weighted", 2, 2, [2, 6], 3, marks=pytest.mark.exhaustive),
        pytest.param("plain", 1, 0, [9], 3, marks=pytest.mark.exhaustive),
    ],
)
def test_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=3)
