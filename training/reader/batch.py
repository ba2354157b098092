"""What the reader hands to a training step: this rank's rows of one step.

Shape letters: N rows of this rank, C channels (3), H and W pixels, L tokens.
"""

from dataclasses import dataclass, field, replace

import torch

from training.rows import Rows, joined


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

    Ranks may hold different numbers of rows. Columns (see `training/rows.py`):

    image   uint8 [N, C, H, W], not normalised: that happens inside the towers, so that pixels travel as bytes
    tokens  int64 [N, L], of the caption drawn for each row
    valid   bool [N]; a row that is not is neither a positive nor a negative, and its pixels are zero
    id      int64 [N], of the uid: equal ids are one pair
    key     int64 [N], of (seed, epoch, uid): what draws inside the towers are keyed by
    positives/tokens, negatives/tokens, views/image, fields of KEY.json: what terms want (`training/wanted.py`)
    """

    step: int
    rows: Rows
    uids: list[str]  # 32 hex digits each
    captions: list[str]  # the caption drawn for each row
    epochs: list[int]  # the epoch each row belongs to; together with the seed and the uid it keys every random draw
    seed: int = 0
    bad: list[BadPair] = field(default_factory=list)
    read_s: float = 0.0  # seconds a worker spent reading and decoding these rows

    @property
    def size(self) -> int:
        """Rows of this rank."""
        return len(self.uids)

    def pin_memory(self) -> "Batch":
        """Called by torch's DataLoader when it pins; page-locked memory makes the copy to a GPU asynchronous."""
        return replace(self, rows={name: column.pin_memory() for name, column in self.rows.items()})

    def to(self, device: torch.device | str) -> "Batch":
        return replace(self, rows={name: column.to(device, non_blocking=True) for name, column in self.rows.items()})


def concatenated(parts: list[Batch]) -> Batch:
    """The rows of several pieces of one step, in the given order."""
    if len(parts) == 1:
        return parts[0]
    if len({part.step for part in parts}) != 1:
        raise ValueError(f"batch: pieces of steps {sorted({part.step for part in parts})}; expected pieces of one step")
    return Batch(
        step=parts[0].step,
        rows=joined([part.rows for part in parts]),
        uids=[uid for part in parts for uid in part.uids],
        captions=[text for part in parts for text in part.captions],
        epochs=[epoch for part in parts for epoch in part.epochs],
        seed=parts[0].seed,
        bad=[bad for part in parts for bad in part.bad],
        read_s=sum(part.read_s for part in parts),
    )
