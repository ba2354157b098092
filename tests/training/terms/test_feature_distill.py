"""Feature distillation through cache and engine: the textbook's; the map between widths trains as in plain torch."""

import pytest
import torch

from tests.helpers import terms
from tests.helpers.tiny_towers import WIDTH
from training.terms.feature_distill import FeatureDistill


def same(rows, width=WIDTH):
    made = torch.Generator().manual_seed(3)
    for side in ("image", "text"):
        rows[f"teacher.{side}"] = torch.randn(len(rows["valid"]), width, generator=made, dtype=torch.float64)
    return rows


def squared(features, scalars, rows, sides=("image", "text")):
    valid = rows["valid"]
    distances = [((features[side] - rows[f"teacher.{side}"])[valid] ** 2).sum(1).mean() for side in sides]
    return sum(distances)


def angles(features, scalars, rows):
    valid = rows["valid"]
    ours, theirs = features["text"][valid], rows["teacher.text"][valid]
    return (1 - (ours * theirs).sum(1) / ours.norm(dim=1) / theirs.norm(dim=1)).mean()


CASES = {
    "mse": terms.Case(FeatureDistill(), squared, prepare=same),
    "cosine": terms.Case(FeatureDistill(of="text", distance="cosine"), angles, prepare=same),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


@pytest.mark.parametrize(("case", "world", "stage", "counts", "chunks"), [("mse", 2, 2, [6, 3], 2)])
def test_five_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=5)
