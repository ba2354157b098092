"""Zero-shot classification with an ensemble of prompts (Radford et al., 2021), on clip_benchmark's sets."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.errors import DataError
from pipeline.settings import PathText, Settings
from training.evals.data import Row, check_set, load_images, open_rows, read_lines
from training.evals.evaluation import Scored

if TYPE_CHECKING:
    from torch import Tensor

    from training.evals.model import Model

TEMPLATES = "zeroshot_classification_templates.txt"


class ZeroShot(Settings):
    """KEY.cls holds an image's class as a number, a line of classnames.txt. `templates` replaces the set's own."""

    kind: Literal["zero_shot"] = "zero_shot"
    name: str = Field(min_length=1)
    path: PathText
    split: PathText = "test"
    templates: list[str] | None = None

    def check(self) -> None:
        check_set(f"eval set {self.name}", self.path, self.split)

    def run(self, model: "Model") -> Scored:
        """{top1, top5 (with more than 5 classes), mean_per_class_recall} and the set's sizes. Collective."""
        import torch

        from training.evals.classification import class_weights, ranks_of_label, scores_of
        from training.evals.model import in_blocks

        rows = open_rows(model.peers, self.path, self.split, "cls")
        classes = read_lines(self.path, "classnames.txt")
        templates = self.templates or read_lines(self.path, TEMPLATES)
        label_M = torch.tensor([_label(row, len(classes)) for row in rows], device=model.peers.device)
        weight_KD = class_weights(model, classes, templates)

        def ranks(block: range) -> "Tensor":
            pictures = load_images([rows[i] for i in block], model.image, model.towers.image_size)
            return ranks_of_label(model.images(pictures) @ weight_KD.T, label_M[block.start : block.stop])

        rank_M = in_blocks(model.peers, len(rows), model.batch, ranks)
        counts = {"images": len(rows), "classes": len(classes)}
        return Scored(scores_of(rank_M, label_M, len(classes)), _chance(len(classes)), counts)


def _label(row: Row, classes: int) -> int:
    text = row.label.decode("ascii", "replace").strip()
    if not text.isdigit() or int(text) >= classes:
        raise DataError(f"{row.shard}: {row.key}.cls", f"holds {text[:20]!r}", f"a class from 0 to {classes - 1}")
    return int(text)


def _chance(classes: int) -> dict[str, float]:
    chance = {"top1": 1 / classes, "mean_per_class_recall": 1 / classes}
    if classes > 5:
        chance["top5"] = 5 / classes
    return chance
