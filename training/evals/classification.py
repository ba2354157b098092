"""Zero-shot classification in numbers: class weights from prompts, the rank of the right class, scores.

Shape letters: N images of a block, M images, K classes, T templates, D features.
"""

import torch
from torch import Tensor

from training.evals.model import Model, in_blocks


def class_weights(model: Model, classes: list[str], templates: list[str]) -> Tensor:
    """(K, D): the mean of a class's normalised prompt features, normalised. Collective."""

    def weights(block: range) -> Tensor:
        prompts = [template.replace("{c}", classes[k]) for k in block for template in templates]
        mean_KD = model.texts(prompts).unflatten(0, (len(block), len(templates))).mean(dim=1)
        return mean_KD / mean_KD.norm(dim=-1, keepdim=True)

    return in_blocks(model.peers, len(classes), max(1, model.batch // len(templates)), weights)


def ranks_of_label(scores_NK: Tensor, label_N: Tensor) -> Tensor:
    """int64 [N]: how many classes score above the right one; of equal ones the earlier stands first."""
    right_N1 = scores_NK.gather(1, label_N[:, None])
    position_K = torch.arange(scores_NK.shape[1], device=scores_NK.device)
    ahead_NK = (scores_NK > right_N1) | ((scores_NK == right_N1) & (position_K[None, :] < label_N[:, None]))
    return ahead_NK.sum(1)


def scores_of(rank_M: Tensor, label_M: Tensor, classes: int) -> dict[str, float]:
    hit_M = (rank_M == 0).double()
    seen_K = torch.bincount(label_M, minlength=classes)
    hits_K = torch.zeros(classes, dtype=torch.float64, device=hit_M.device).index_add_(0, label_M, hit_M)
    recall_K = hits_K[seen_K > 0] / seen_K[seen_K > 0]
    scores = {"top1": hit_M.mean().item(), "mean_per_class_recall": recall_K.mean().item()}
    if classes > 5:
        scores["top5"] = (rank_M < 5).double().mean().item()
    return scores
