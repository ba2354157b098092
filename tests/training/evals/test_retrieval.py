"""Retrieval counts as the full matrix with topk does."""

import pytest
import torch
import torch.nn.functional as F

from tests.training.evals.test_evaluation import recall_by_topk
from training.evals import ranking
from training.evals.ranking import ranks_of


@pytest.mark.parametrize("tile", [3, 7, 8192])
def test_recall_equals_the_full_matrix_with_topk(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr(ranking, "COLUMNS", tile)
    made = torch.Generator().manual_seed(1)
    image_QD, text_KD = (F.normalize(torch.randn(n, 8, generator=made), dim=-1) for n in (40, 97))
    owner_K = torch.cat([torch.arange(40), torch.randint(0, 40, (57,), generator=made)])
    scores_QK, matches_QK = image_QD @ text_KD.T, torch.arange(40)[:, None] == owner_K[None, :]
    i2t = ranks_of(image_QD, torch.arange(40), text_KD, owner_K)
    t2i = ranks_of(text_KD, owner_K, image_QD, torch.arange(40))
    for k in (1, 2, 5, 10, 39):
        assert (i2t < k).float().mean().item() == recall_by_topk(scores_QK, matches_QK, k)
        assert (t2i < k).float().mean().item() == recall_by_topk(scores_QK.T, matches_QK.T, k)
