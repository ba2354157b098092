"""Captioning inside the replay: the textbook's mean over all tokens to be said, and open_clip's own CoCaLoss."""

import open_clip
import pytest
import torch

from tests.helpers import terms
from tests.helpers.lanes import sampled
from tests.helpers.tiny_towers import TinyTowers, tiny_batch
from training.terms.caption import Caption


def textbook(features, scalars, rows):
    """Minus the log of the chance of each token but the first, given those before, one at a time; 0 is padding."""
    losses = []
    for logits, tokens, valid in zip(features["caption_logits"], rows["tokens"], rows["valid"], strict=True):
        chances = logits.softmax(1)
        losses += [-chances[at, word].log() for at, word in enumerate(tokens[1:]) if valid and word != 0]
    return torch.stack(losses).mean()


def padded(rows):
    """Texts of other lengths on other ranks, one of them with nothing to say."""
    tokens, lengths = rows["tokens"].clone(), torch.arange(len(rows["tokens"])) % 5 + 1
    tokens[torch.arange(tokens.shape[1]) >= lengths[:, None]] = 0
    return rows | {"tokens": tokens}


CASES = {"padded": terms.Case(Caption(), textbook, prepare=padded), "full": terms.Case(Caption(), textbook)}


@terms.on_every_share(CASES)
def test_any_world_gives_the_gradients_of_the_whole_batch(case, counts, masked):
    terms.check_features(CASES[case], counts, masked)


STEPS = [
    ("padded", 2, 2, [6, 3], 2), ("padded", 3, 3, [4, 0, 5], 2), ("full", 4, 1, [2, 3, 1, 4], 1),
    ("full", 1, 0, [9], 3), ("padded", 4, 0, [2, 3, 1, 4], 3), ("full", 2, 3, [2, 6], 3),
]  # fmt: skip


@pytest.mark.parametrize(("case", "world", "stage", "counts", "chunks"), sampled(STEPS, 0))
def test_five_steps_walk_the_path_of_plain_torch(case, world, stage, counts, chunks):
    terms.check_steps(CASES[case], world, stage, counts, chunks, steps=5)


def test_it_is_the_caption_loss_of_open_clip():
    rows = padded(tiny_batch(6).rows)
    towers = TinyTowers().double()
    logits = towers(rows, frozenset({"caption_logits"}))["caption_logits"].detach().requires_grad_()
    loss = open_clip.CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=0.0)
    _, theirs = loss(None, None, logits, rows["tokens"][:, 1:], None)
    (want,) = torch.autograd.grad(theirs, logits)
    term = Caption().build()
    ours = term({"caption_logits": logits}, rows) / term.count(rows)
    (got,) = torch.autograd.grad(ours, logits)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12) and torch.allclose(got, want, rtol=1e-10, atol=1e-14)
