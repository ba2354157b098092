"""FILIP's token-wise alignment through cache and engine: the textbook's on the whole batch, all tokens with all."""

import math

import pytest
import torch

from tests.helpers import terms
from tests.helpers.lanes import sampled
from training.terms.filip import Filip


def textbook(features, scalars, rows, keep=1.0):
    """Yao et al., 2022, section 3.1: every text's words without its padding, against every image's patches."""
    valid, scale = rows["valid"], scalars["filip_log_scale"].exp()
    patches, words, masks = (features[name][valid] for name in ("patches", "words", "word_mask"))
    pairs = [nearest(p, w[m > 0], keep) for p, w, m in zip(patches, words, masks, strict=True)]
    to_text = torch.stack([torch.stack([(p @ w.T).max(1).values.mean() for _, w in pairs]) for p, _ in pairs])
    to_image = torch.stack([torch.stack([(p @ w.T).max(0).values.mean() for _, w in pairs]) for p, _ in pairs])
    ids = rows["id"][valid]
    twin = (ids[:, None] == ids) & ~torch.eye(len(ids), dtype=torch.bool)
    i2t, t2i = ((scale * s).masked_fill(twin, -torch.inf) for s in (to_text, to_image))
    return -(i2t.log_softmax(1).diagonal().mean() + t2i.log_softmax(0).diagonal().mean()) / 2


def nearest(patches, words, keep):
    """Those tokens of a pair that are nearest to the other side of it."""
    scores = (patches @ words.T).detach()
    strongest = (scores.max(1).values.argsort(descending=True), scores.max(0).values.argsort(descending=True))
    p, w = (order[: math.ceil(keep * len(order))] for order in strongest)
    return patches[p], words[w]


def half(features, scalars, rows):
    return textbook(features, scalars, rows, 0.5)


def twice(rows):
    return rows | {"id": rows["id"] // 3}


CASES = {
    "tiles": terms.Case(Filip(tile=2), textbook),
    "whole": terms.Case(Filip(), textbook),
    "kept": terms.Case(Filip(keep=0.5, tile=3), half),
    "twice": terms.Case(Filip(tile=3), textbook, prepare=twice),
}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


STEPS = [
    ("kept", 2, 2, [6, 3], 2), ("tiles", 3, 3, [4, 0, 5], 2), ("twice", 4, 1, [2, 3, 1, 4], 1), ("whole", 1, 0, [9], 3),
    ("tiles", 2, 0, [6, 3], 3), ("kept", 1, 0, [9], 1), ("whole", 4, 2, [2, 3, 1, 4], 2), ("twice", 2, 3, [2, 6], 3),
]  # fmt: skip


@pytest.mark.parametrize(("case", "world", "stage", "counts", "chunks"), sampled(STEPS, 0))
def test_five_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=5)
