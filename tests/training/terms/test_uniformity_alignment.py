"""Wang & Isola's terms through cache and engine: the textbook's on the whole batch; pairs met twice count as one."""

import pytest
import torch

from tests.helpers import terms
from training.terms.uniformity_alignment import UniformityAlignment


def uniformity(points, ids, t):
    apart = ids[:, None] != ids
    return torch.cdist(points, points)[apart].pow(2).mul(-t).exp().mean().log()


def textbook(features, scalars, rows, alpha=2.0, t=2.0, weight=1.0):
    valid = rows["valid"]
    x, y, ids = features["image"][valid], features["text"][valid], rows["id"][valid]
    aligned = (x - y).norm(dim=1).pow(alpha).mean()
    return aligned + weight * (uniformity(x, ids, t) + uniformity(y, ids, t)) / 2


def sharp(features, scalars, rows):
    return textbook(features, scalars, rows, 3.0, 40.0, 0.3)


def twice(rows):
    return rows | {"id": rows["id"] // 3}


CASES = {
    "plain": terms.Case(UniformityAlignment(tile=3), textbook),
    "sharp": terms.Case(UniformityAlignment(tile=64, alpha=3, t=40, uniformity=0.3), sharp),
    "twice": terms.Case(UniformityAlignment(tile=2), textbook, prepare=twice),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


@pytest.mark.parametrize(
    ("case", "world", "stage", "counts", "chunks"),
    [
        ("plain", 2, 2, [7, 3], 2),
        pytest.param("twice", 3, 3, [4, 0, 5], 2, marks=pytest.mark.exhaustive),
        pytest.param("plain", 2, 1, [2, 6], 3, marks=pytest.mark.exhaustive),
        pytest.param("plain", 1, 0, [9], 3, marks=pytest.mark.exhaustive),
    ],
)
def test_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=3)


def test_one_pair_alone_has_nothing_to_be_told_from():
    case = terms.Case(UniformityAlignment(), lambda f, s, r: (f["image"] - f["text"]).square().sum(1).mean())
    terms.check_features(case, [1, 0], masked=False)
