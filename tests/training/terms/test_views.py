"""SLIP's term of views through cache and engine: NT-Xent of the textbook on the whole batch."""

import pytest
import torch

from tests.helpers import terms
from training.terms.views import Views


def nt_xent(one, other, ids, scale):
    """Chen et al., 2020: 2 N views, each to find its partner among all but itself; one picture is no rival."""
    n, views = len(one), torch.cat([one, other])
    scores = scale * views @ views.T
    partner = torch.arange(2 * n).roll(n)
    hidden = ids.repeat(2)[:, None] == ids.repeat(2)
    hidden[torch.arange(2 * n), partner] = False
    return -scores.masked_fill(hidden, -torch.inf).log_softmax(1)[torch.arange(2 * n), partner].mean()


def two(features, scalars, rows):
    views, valid = features["views/projected"], rows["valid"]
    return nt_xent(views[0::2][valid], views[1::2][valid], rows["id"][valid], 10.0)


def one(features, scalars, rows):
    valid, scale = rows["valid"], scalars["views_log_scale"].exp()
    return nt_xent(features["projected"][valid], features["views/projected"][valid], rows["id"][valid], scale)


def twice(rows):
    return rows | {"id": rows["id"] // 3}


CASES = {
    "two": terms.Case(Views(tile=3, width=5), two, (("views", 2),)),
    "one": terms.Case(Views(count=1, scale=None, exchange="ring", tile=4, width=6), one, (("views", 1),)),
    "twice": terms.Case(Views(tile=64, width=6, exchange="gather2"), two, (("views", 2),), twice),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


@pytest.mark.parametrize(
    ("case", "world", "stage", "counts", "chunks"),
    [
        ("one", 2, 2, [7, 3], 2),
        ("two", 2, 3, [6, 3], 3),
        pytest.param("two", 3, 1, [4, 0, 5], 2, marks=pytest.mark.exhaustive),
        pytest.param("twice", 1, 0, [9], 3, marks=pytest.mark.exhaustive),
    ],
)
def test_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=3)
