"""Late interaction holds no block larger than a tile, and moves the bytes that its docstring says."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.ranks import run_ranks
from tests.helpers.simulated import run_simulated
from training.terms.across import late
from training.terms.across.everyone import Everyone

P, L, D = 5, 6, 8


def _step(peers, n, tile):
    made = torch.Generator().manual_seed(peers.rank)
    patches, words = (F.normalize(torch.randn(n, size, D, generator=made), dim=-1).requires_grad_() for size in (P, L))
    rows = {"id": torch.arange(n) + 100 * peers.rank, "valid": torch.ones(n, dtype=torch.bool)}
    everyone, before = Everyone.of(rows, peers), peers.moved
    images, texts = late.told_apart(patches, words, torch.ones(n, L), torch.ones(1), everyone, tile)
    (images.rivals.sum() + texts.rivals.sum() - images.own.sum() - texts.own.sum()).backward()
    return peers.moved - before


@pytest.mark.parametrize("world", [2, 4])
def test_bytes_counted_over_gloo_are_those_of_the_formula(world):
    n = 6
    words = n * (2 * 4 * L * D + L) * (world - 1)  # there and their gradients back, with a byte a word for the mask
    sums = 2 * (2 * 4 * n * world) * (world - 1) // world  # all-reduced: largest score and sum of exponentials
    gradients = 4 * n * (world - 1)
    assert run_ranks(_step, world, n, 4) == [words + sums + gradients] * world


def test_no_block_is_larger_than_a_tile(monkeypatch):
    sizes, honest = [], late._best

    def watched(*given):
        best = honest(*given)
        sizes.append(best.products_RPCL.shape)
        return best

    monkeypatch.setattr(late, "_best", watched)
    run_simulated(_step, 2, 7, 3)
    assert len(sizes) == 2 * 2 * 3 * 5 and all(R <= 3 and C <= 3 and (p, w) == (P, L) for R, p, C, w in sizes)


def test_what_is_nearest_is_chosen_by_the_own_pair_and_among_the_words_that_count():
    patches, words = torch.eye(4)[None], torch.tensor([[[0, 2.0, 0, 0], [0, 0, 3, 0], [9, 9, 9, 9], [1, 0, 0, 0]]])
    mask = torch.tensor([[1.0, 1, 0, 1]])
    at_patches, at_words, kept = late.nearest(patches, words, mask, 0.5)
    assert at_patches.tolist() == [[2, 1]] and at_words.tolist() == [[1, 0]] and kept.tolist() == [[1, 1]]
    _, at_words, kept = late.nearest(patches, words, torch.tensor([[1.0, 0, 0, 0]]), 0.5)
    assert at_words[0, 0] == 0 and kept.tolist() == [[1, 0]]
