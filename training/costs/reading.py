"""What the reader has to deliver: bytes of the shards, and cores that decode."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.contract.manifest import MANIFEST, Manifest

if TYPE_CHECKING:
    from training.settings import TrainSettings

PAIR_BYTES = 35_000.0
"""Of a pair with its picture, where no manifest says: DataComp's CommonPool has 12.8e9 pairs in 450 TB (Gadre et al.,
2023, their download page)."""
DECODED_S = 600.0
"""Pairs that a core checks, decodes and resizes a second: pictures of 512 x 384 (benchmarks/README.md, `pictures.py`,
"resized", which also encodes)."""


@dataclass(frozen=True)
class Data:
    """`pairs` and `bytes` are None unless every dataset of the recipe is there and finished."""

    pairs: int | None
    bytes: int | None
    pair_bytes: float


def data_of(settings: "TrainSettings") -> Data:
    """From the manifests, which alone are read. DataError: one is damaged."""
    if not all(storage.exists(storage.join(path, MANIFEST)) for path in settings.data):
        return Data(None, None, PAIR_BYTES)
    manifests = [Manifest.load(path) for path in settings.data]
    pairs = sum(each.num_pairs for each in manifests)
    size = sum(shard.bytes for each in manifests for shard in each.shards)
    return Data(pairs, size, size / pairs if pairs else PAIR_BYTES)
