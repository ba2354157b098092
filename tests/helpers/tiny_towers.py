"""Two towers of a few hundred parameters with the interface of `training.towers`, for tests of engines."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.reader.batch import Batch

SIDE, LENGTH, WORDS, WIDTH = 4, 5, 17, 6


class TinyTowers(nn.Module):
    """uint8 images (N, 3, 4, 4) and tokens (N, 5) in, normalised features of width 6 out.

    The middle layer's 7 units are divided by no number of ranks: partitions of it end in padding.
    """

    def __init__(self, seed: int = 0, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.image = nn.Sequential(
                nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 7), nn.GELU(), nn.LayerNorm(7), nn.Dropout(dropout),
                nn.Linear(7, WIDTH, bias=False),
            )  # fmt: skip
            self.text = nn.Sequential(nn.EmbeddingBag(WORDS, 7), nn.LayerNorm(7), nn.Linear(7, WIDTH))
        self.log_scale = nn.Parameter(torch.tensor([math.log(1 / 0.07)]))
        self.bias = None
        self.register_buffer("seen", torch.zeros(1))
        self.to(dtype)

    def forward(self, images_NCHW: Tensor | None = None, tokens_NL: Tensor | None = None):
        image_ND = text_ND = None
        if images_NCHW is not None:
            pixels = (images_NCHW.to(self.log_scale.dtype) - 128) / 64
            image_ND = F.normalize(self._wide(self.image(pixels)), dim=-1)
        if tokens_NL is not None:
            text_ND = F.normalize(self._wide(self.text(tokens_NL)), dim=-1)
        return image_ND, text_ND

    def _wide(self, features_ND: Tensor) -> Tensor:
        return features_ND.to(self.log_scale.dtype)


def tiny_batch(rows: int, seed: int = 0, every_valid: bool = True) -> Batch:
    """`rows` random pairs; with `every_valid` false, each fourth is masked."""
    made = torch.Generator().manual_seed(seed)
    return Batch(
        step=0,
        images_NCHW=torch.randint(0, 256, (rows, 3, SIDE, SIDE), generator=made, dtype=torch.uint8),
        tokens_NL=torch.randint(0, WORDS, (rows, LENGTH), generator=made),
        valid_N=torch.ones(rows, dtype=torch.bool) if every_valid else torch.arange(rows) % 4 != 1,
        uids=[f"{row:032x}" for row in range(rows)],
        captions=[""] * rows,
        epochs=[0] * rows,
    )


def cut(batch: Batch, counts: list[int], rank: int) -> Batch:
    """Rank `rank`'s rows of `batch`, when ranks hold `counts` rows."""
    own = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    lists = {
        name: getattr(batch, name)[own]
        for name in ("images_NCHW", "tokens_NL", "valid_N", "uids", "captions", "epochs")
    }
    return Batch(step=batch.step, **lists)
