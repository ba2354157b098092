"""The towers as an evaluation sees them, and work cut into blocks that are dealt to the ranks.

A block is cut by position in the set, never by rank, so every world size computes the same blocks in the same shapes
and ends with the same number.

Shape letters: N rows of a block, M rows of all blocks, D features, C channels, H and W pixels, L tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import DataError
from training.ranks.peers import Peers
from training.reader.images import ImageSettings
from training.rows import Rows
from training.towers.towers import Towers

Evaluate = Callable[[Rows, frozenset[str]], Rows]


@dataclass(frozen=True)
class Model:
    """Towers ready to be scored. `evaluate(rows, want)` gives normalised features and is collective (ZeRO-3 gathers
    parameters in it): every rank calls it equally often."""

    evaluate: Evaluate
    towers: Towers
    image: ImageSettings
    peers: Peers
    batch: int

    def images(self, images_NCHW: Tensor) -> Tensor:
        return _finite(self.evaluate({"image": images_NCHW.to(self.peers.device)}, frozenset({"image"}))["image"])

    def texts(self, texts: list[str]) -> Tensor:
        tokens_NL = self.towers.tokenize(texts).to(self.peers.device)
        return _finite(self.evaluate({"tokens": tokens_NL}, frozenset({"text"}))["text"])


def _finite(features_ND: Tensor) -> Tensor:
    if not bool(torch.isfinite(features_ND).all()):
        # A NaN compares false with everything, so it would rank first and score as perfect.
        raise DataError(
            "evaluation",
            "the towers give features that are not finite",
            "a model that can be scored",
            "resume training from an earlier checkpoint",
        )
    return features_ND


def in_blocks(peers: Peers, rows: int, block: int, work: Callable[[range], Tensor]) -> Tensor:
    """(M, ...): `work(positions) -> one row each`, over all blocks in order, whole on every rank. Collective.

    Blocks are dealt round robin. A rank without a block in the last round works on the first row and gives nothing:
    `work` may be collective, so every rank does it equally often.
    """
    starts = range(0, rows, block)
    gathered = []
    for first in range(0, len(starts), peers.world):
        mine = first + peers.rank
        if mine < len(starts):
            part = work(range(starts[mine], min(starts[mine] + block, rows)))
        else:
            part = work(range(1))[:0]
        gathered.append(peers.gather_rows(part)[0])
    return torch.cat(gathered)
