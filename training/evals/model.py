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
from training.towers.towers import Towers

Evaluate = Callable[[Tensor | None, Tensor | None], tuple[Tensor | None, Tensor | None]]


@dataclass(frozen=True)
class Model:
    """Towers ready to be scored. `evaluate(images, None)` and `evaluate(None, tokens)` give normalised features and are
    collective (ZeRO-3 gathers parameters in them): every rank calls them equally often."""

    evaluate: Evaluate
    towers: Towers
    image: ImageSettings
    peers: Peers
    batch: int

    def images(self, images_NCHW: Tensor) -> Tensor:
        features, _ = self.evaluate(images_NCHW.to(self.peers.device), None)
        return _finite(features)

    def texts(self, texts: list[str]) -> Tensor:
        _, features = self.evaluate(None, self.towers.tokenize(texts).to(self.peers.device))
        return _finite(features)


def _finite(features_ND: Tensor | None) -> Tensor:
    assert features_ND is not None  # of an input that was given
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
