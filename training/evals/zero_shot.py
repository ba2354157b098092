"""Zero-shot classification with an ensemble of prompts (Radford et al., 2021), on clip_benchmark's sets.

Shape letters: N images of a block, M images, K classes, T templates, D features.
"""

from typing import Literal

import torch
from torch import Tensor

from pipeline.errors import DataError
from pipeline.settings import Settings
from training.evals.base import Model, Scored, in_blocks
from training.evals.data import Row, check_set, load_images, open_rows, read_lines

TEMPLATES = "zeroshot_classification_templates.txt"


class ZeroShot(Settings):
    """KEY.cls holds an image's class as a number, a line of classnames.txt. `templates` replaces the set's own."""

    kind: Literal["zero_shot"] = "zero_shot"
    name: str
    path: str
    split: str = "test"
    templates: list[str] | None = None

    def check(self) -> None:
        check_set(f"eval set {self.name}", self.path, self.split)

    def run(self, model: Model) -> Scored:
        """{top1, top5 (with more than 5 classes), mean_per_class_recall} and the set's sizes. Collective."""
        rows = open_rows(model.peers, self.path, self.split, "cls")
        classes = read_lines(self.path, "classnames.txt")
        templates = self.templates or read_lines(self.path, TEMPLATES)
        label_M = torch.tensor([_label(row, len(classes)) for row in rows], device=model.peers.device)
        weight_KD = class_weights(model, classes, templates)

        def ranks(block: range) -> Tensor:
            pictures = load_images([rows[i] for i in block], model.image, model.towers.image_size)
            return ranks_of_label(model.images(pictures) @ weight_KD.T, label_M[block.start : block.stop])

        rank_M = in_blocks(model.peers, len(rows), model.batch, ranks)
        counts = {"images": len(rows), "classes": len(classes)}
        return Scored(_scores(rank_M, label_M, len(classes)), _chance(len(classes)), counts)


def _label(row: Row, classes: int) -> int:
    text = row.label.decode("ascii", "replace").strip()
    if not text.isdigit() or int(text) >= classes:
        raise DataError(f"{row.shard}: {row.key}.cls", f"holds {text[:20]!r}", f"a class from 0 to {classes - 1}")
    return int(text)


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


def _scores(rank_M: Tensor, label_M: Tensor, classes: int) -> dict[str, float]:
    hit_M = (rank_M == 0).double()
    seen_K = torch.bincount(label_M, minlength=classes)
    hits_K = torch.zeros(classes, dtype=torch.float64, device=hit_M.device).index_add_(0, label_M, hit_M)
    recall_K = hits_K[seen_K > 0] / seen_K[seen_K > 0]
    scores = {"top1": hit_M.mean().item(), "mean_per_class_recall": recall_K.mean().item()}
    if classes > 5:
        scores["top5"] = (rank_M < 5).double().mean().item()
    return scores


def _chance(classes: int) -> dict[str, float]:
    chance = {"top1": 1 / classes, "mean_per_class_recall": 1 / classes}
    if classes > 5:
        chance["top5"] = 5 / classes
    return chance
