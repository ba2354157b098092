"""Zero-shot classification is prompt ensembling by the book."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.tiny_run import write_eval_set
from tests.training.evals.test_evaluation import model_of
from training.evals.data import load_images, open_rows
from training.evals.zero_shot import ZeroShot
from training.ranks.peers import Peers


def test_zero_shot_is_prompt_ensembling_by_the_book(tmp_path: Path) -> None:
    path = write_eval_set(tmp_path / "set", 30, "cls")
    model = model_of(Peers.alone(), batch=7)
    scored = ZeroShot(name="s", path=str(path)).run(model)
    towers = model.towers
    weights = []
    for k in range(7):
        prompts_TD = towers({"tokens": towers.tokenize([f"a picture of colour {k}.", f"colour {k}"])})["text"]
        weights.append(F.normalize(prompts_TD.mean(0), dim=0))
    rows = open_rows(Peers.alone(), str(path), "test", "cls")
    image_ND = towers({"image": load_images(rows, model.image, 8)})["image"]
    scores_NK = 100 * image_ND @ torch.stack(weights).T
    labels_N = torch.arange(30) % 7
    top_N5 = scores_NK.topk(5, dim=1).indices
    hits_N = top_N5[:, 0] == labels_N
    assert scored.scores["top1"] == pytest.approx(hits_N.float().mean().item())
    assert scored.scores["top5"] == pytest.approx((top_N5 == labels_N[:, None]).any(1).float().mean().item())
    recalls = [hits_N[labels_N == k].float().mean() for k in range(7)]
    assert scored.scores["mean_per_class_recall"] == pytest.approx(torch.stack(recalls).mean().item())
    assert scored.counts == {"images": 30, "classes": 7} and scored.chance["top1"] == pytest.approx(1 / 7)
