"""The number that says where notes about one thing meet: a 64-bit hash of the thing."""

import hashlib
from collections.abc import Iterable

import numpy as np

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def hashed_u64(texts: Iterable[str]) -> np.ndarray:
    """uint64 per text; equal texts, equal groups. Others may share a group too, so `settle` still compares texts."""
    return np.fromiter(
        (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") for text in texts), np.uint64
    )


def mixed(numbers: np.ndarray) -> np.ndarray:
    """A scrambling of uint64, so that groups spread evenly (finaliser of splitmix64; Steele et al., 2014)."""
    x = numbers.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
