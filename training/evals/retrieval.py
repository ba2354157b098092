"""Image-text retrieval: recall at K in both directions, as clip_benchmark counts it, never holding an N x N matrix.

Shape letters: Q queries, K keys, D features; R and C rows and columns of a tile.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pipeline.errors import DataError
from pipeline.settings import Settings
from training.evals.base import Model, Scored, in_blocks
from training.evals.data import check_set, load_images, open_rows

ROWS, COLUMNS = 1024, 8192


class Retrieval(Settings):
    """KEY.txt holds an image's captions, one a line. A query is found when ANY of its matches is in the top K."""

    kind: Literal["retrieval"] = "retrieval"
    name: str
    path: str
    split: str = "test"
    ks: tuple[int, ...] = Field((1, 5, 10), min_length=1)

    def check(self) -> None:
        check_set(f"eval set {self.name}", self.path, self.split)

    def run(self, model: Model) -> Scored:
        """{i2t_r1, ..., t2i_r10} and the set's sizes. Collective."""
        rows = open_rows(model.peers, self.path, self.split, "txt")
        captions, owners = [], []
        for index, row in enumerate(rows):
            lines = row.label.decode("utf-8", "replace").splitlines()
            if not lines:
                raise DataError(f"{row.shard}: {row.key}.txt", "is empty", "one caption a line")
            captions += lines
            owners += [index] * len(lines)

        def images(block: range) -> Tensor:
            return model.images(load_images([rows[i] for i in block], model.image, model.towers.image_size))

        image_QD = in_blocks(model.peers, len(rows), model.batch, images)
        text_KD = in_blocks(model.peers, len(captions), model.batch, lambda b: model.texts(captions[b.start : b.stop]))
        ids_Q = torch.arange(len(rows), device=image_QD.device)
        owner_K = torch.tensor(owners, device=image_QD.device)
        image, text = (image_QD, ids_Q), (text_KD, owner_K)
        ranks = {"i2t": spread_ranks(model, image, text), "t2i": spread_ranks(model, text, image)}
        scores = {f"{way}_r{k}": (found < k).double().mean().item() for way, found in ranks.items() for k in self.ks}
        return Scored(scores, self._chance(len(rows), owners), {"images": len(rows), "texts": len(captions)})

    def _chance(self, images: int, owners: list[int]) -> dict[str, float]:
        """Recall of a random order: a query with m matches among n keys is found with 1 - C(n-m, k) / C(n, k)."""
        texts = len(owners)
        matches = torch.bincount(torch.tensor(owners), minlength=images).tolist()
        chance = {}
        for k in self.ks:
            chance[f"i2t_r{k}"] = sum(_found_by_chance(texts, m, k) for m in matches) / images
            chance[f"t2i_r{k}"] = min(1.0, k / images)
        return chance


def spread_ranks(model: Model, queries: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor]) -> Tensor:
    """`ranks_of` for (features, ids) of all queries, blocks of them dealt to the ranks. Collective."""

    def ranks(block: range) -> Tensor:
        cut = slice(block.start, block.stop)
        return ranks_of(queries[0][cut], queries[1][cut], *keys)

    return in_blocks(model.peers, len(queries[0]), ROWS, ranks)


def _found_by_chance(keys: int, matches: int, k: int) -> float:
    missed = 1.0
    for drawn in range(min(k, keys)):
        missed *= max(0, keys - matches - drawn) / (keys - drawn)
    return 1.0 - missed


def ranks_of(query_RD: Tensor, query_id_R: Tensor, key_KD: Tensor, key_id_K: Tensor) -> Tensor:
    """int64 [R]: how many keys stand before each query's best match (a key of the same id); 0 is a hit at 1.

    Keys of equal score stand in order of position, so towers that give every input the same features score as chance
    and not as perfect. Every query must have a match.
    """
    best_R = torch.full_like(query_RD[:, 0], -torch.inf)
    place_R = torch.zeros_like(query_id_R)
    tiles = [slice(start, min(start + COLUMNS, len(key_KD))) for start in range(0, len(key_KD), COLUMNS)]
    for tile in tiles:
        scores_RC = query_RD @ key_KD[tile].T
        matches_RC = query_id_R[:, None] == key_id_K[None, tile]
        top_R, column_R = scores_RC.masked_fill(~matches_RC, -torch.inf).max(dim=1)
        # max() may name any of equal columns; the first one is wanted.
        first_RC = matches_RC & (scores_RC == top_R[:, None])
        column_R = torch.where(first_RC.any(1), first_RC.int().argmax(1), column_R)
        better_R = top_R > best_R
        best_R = torch.where(better_R, top_R, best_R)
        place_R = torch.where(better_R, column_R + tile.start, place_R)
    before_R = torch.zeros_like(query_id_R)
    for tile in tiles:
        scores_RC = query_RD @ key_KD[tile].T
        position_C = torch.arange(tile.start, tile.stop, device=scores_RC.device)
        ahead_RC = (scores_RC > best_R[:, None]) | (
            (scores_RC == best_R[:, None]) & (position_C[None, :] < place_R[:, None])
        )
        before_R += ahead_RC.sum(1)
    return before_R
