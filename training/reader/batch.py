"""What the reader hands to a training step: this rank's rows of one step.

Shape letters: N rows of this rank, C channels (3), H and W pixels, L tokens, K hard negatives of these rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch


@dataclass(frozen=True)
class BadPair:
    """A pair whose image could not be decoded when it was read; it is masked, never replaced by another pair."""

    uid: str
    shard: str
    key: str
    reason: str


@dataclass
class Batch:
    """Rows in lane order: rank 0's rows, then rank 1's, ... are the same global batch for every world size.

    Ranks may hold different numbers of rows. Images are not normalised (that happens inside the towers), so that they
    travel as uint8. A row with `valid_N` False is neither a positive nor a negative; its pixels are zero.
    """

    step: int
    images_NCHW: torch.Tensor  # uint8
    tokens_NL: torch.Tensor  # int64
    valid_N: torch.Tensor  # bool
    uids: list[str]  # 32 hex digits each
    captions: list[str]  # the caption drawn for each row
    epochs: list[int]  # the epoch each row belongs to; together with the seed and the uid it keys every random draw
    bad: list[BadPair] = field(default_factory=list)
    read_s: float = 0.0  # seconds a worker spent reading and decoding these rows
    # Texts that are wrong of the image of row negative_of_K, rows rising; None unless the loss wants them.
    negatives_KL: torch.Tensor | None = None  # int64
    negative_of_K: torch.Tensor | None = None  # int64

    @property
    def rows(self) -> int:
        return len(self.uids)

    def pin_memory(self) -> "Batch":
        """Called by torch's DataLoader when it pins; page-locked memory makes the copy to a GPU asynchronous."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str) -> "Batch":
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def _mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                values[name] = change(value)
        return Batch(**values)


def concatenated(parts: list[Batch]) -> Batch:
    """The rows of several pieces of one step, in the given order."""
    if len(parts) == 1:
        return parts[0]
    if len({part.step for part in parts}) != 1:
        raise ValueError(f"batch: pieces of steps {sorted({part.step for part in parts})}; expected pieces of one step")
    return Batch(
        step=parts[0].step,
        images_NCHW=torch.cat([part.images_NCHW for part in parts]),
        tokens_NL=torch.cat([part.tokens_NL for part in parts]),
        valid_N=torch.cat([part.valid_N for part in parts]),
        uids=[uid for part in parts for uid in part.uids],
        captions=[text for part in parts for text in part.captions],
        epochs=[epoch for part in parts for epoch in part.epochs],
        bad=[bad for part in parts for bad in part.bad],
        read_s=sum(part.read_s for part in parts),
        **_negatives(parts),
    )


def _negatives(parts: list[Batch]) -> dict[str, torch.Tensor]:
    found, before = [], 0
    for part in parts:
        if part.negatives_KL is None or part.negative_of_K is None:
            return {}
        found.append((part.negatives_KL, part.negative_of_K + before))
        before += part.rows
    tokens, rows = zip(*found, strict=True)
    return {"negatives_KL": torch.cat(tokens), "negative_of_K": torch.cat(rows)}
