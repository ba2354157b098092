"""Image-text retrieval: recall at K in both directions, as clip_benchmark counts it, never holding an N x N matrix."""

from collections import Counter
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.errors import DataError
from pipeline.settings import PathText, Settings
from training.evals.data import check_set, load_images, open_rows
from training.evals.evaluation import Scored

if TYPE_CHECKING:
    from torch import Tensor

    from training.evals.model import Model


class Retrieval(Settings):
    """KEY.txt holds an image's captions, one a line. A query is found when ANY of its matches is in the top K."""

    kind: Literal["retrieval"] = "retrieval"
    name: str = Field(min_length=1)
    path: PathText
    split: PathText = "test"
    ks: tuple[PositiveInt, ...] = Field((1, 5, 10), min_length=1)

    def check(self) -> None:
        check_set(f"eval set {self.name}", self.path, self.split)

    def run(self, model: "Model") -> Scored:
        """{i2t_r1, ..., t2i_r10} and the set's sizes. Collective."""
        from training.evals.ranking import spread_ranks

        image, text = self.features(model)
        ranks = {"i2t": spread_ranks(model, image, text), "t2i": spread_ranks(model, text, image)}
        scores = {f"{way}_r{k}": (found < k).double().mean().item() for way, found in ranks.items() for k in self.ks}
        owners = text[1].tolist()
        return Scored(scores, self._chance(len(image[0]), owners), {"images": len(image[0]), "texts": len(owners)})

    def features(self, model: "Model") -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        """(features, ids) of all images and of all texts; a text has the id of its image. Collective."""
        import torch

        from training.evals.model import in_blocks

        rows = open_rows(model.peers, self.path, self.split, "txt")
        captions, owners = [], []
        for index, row in enumerate(rows):
            lines = row.label.decode("utf-8", "replace").splitlines()
            if not lines:
                raise DataError(f"{row.shard}: {row.key}.txt", "is empty", "one caption a line")
            captions += lines
            owners += [index] * len(lines)

        def images(block: range) -> "Tensor":
            return model.images(load_images([rows[i] for i in block], model.image, model.towers.image_size))

        image_QD = in_blocks(model.peers, len(rows), model.batch, images)
        text_KD = in_blocks(model.peers, len(captions), model.batch, lambda b: model.texts(captions[b.start : b.stop]))
        owner_K = torch.tensor(owners, device=image_QD.device)
        return (image_QD, torch.arange(len(rows), device=image_QD.device)), (text_KD, owner_K)

    def _chance(self, images: int, owners: list[int]) -> dict[str, float]:
        """Recall of a random order: a query with m matches among n keys is found with 1 - C(n-m, k) / C(n, k)."""
        texts = len(owners)
        matches = Counter(owners).values()
        chance = {}
        for k in self.ks:
            chance[f"i2t_r{k}"] = sum(_found_by_chance(texts, m, k) for m in matches) / images
            chance[f"t2i_r{k}"] = min(1.0, k / images)
        return chance


def _found_by_chance(keys: int, matches: int, k: int) -> float:
    missed = 1.0
    for drawn in range(min(k, keys)):
        missed *= max(0, keys - matches - drawn) / (keys - drawn)
    return 1.0 - missed
