"""Randomness as data: every draw is a keyed hash, so no result depends on order, partition, worker or restart."""

import hashlib
from collections.abc import Iterable

import numpy as np

_TO_UNIT = 2.0**-53
_SHIFTS = np.array([30, 27, 31], np.uint64)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _key(seed: int, parts: tuple[str | int, ...]) -> bytes:
    # Length-prefixed, so that ("ab", "c") and ("a", "bc") are different keys.
    texts = [str(part).encode("utf-8", "surrogatepass") for part in (seed, *parts)]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def keyed_u64(seed: int, *parts: str | int) -> int:
    """A uniform 64-bit integer that is a pure function of (seed, *parts)."""
    return int.from_bytes(hashlib.blake2b(_key(seed, parts), digest_size=8).digest(), "little")


def keyed_uniform(seed: int, *parts: str | int) -> float:
    """A uniform number in [0, 1) that is a pure function of (seed, *parts): 53 bits of `keyed_u64`."""
    return (keyed_u64(seed, *parts) >> 11) * _TO_UNIT


def keyed_uniforms(seed: int, stage: str, uids: Iterable[str], *more: Iterable[str]) -> np.ndarray:
    """Uniforms in [0, 1), float64: element i equals `keyed_uniform(seed, stage, uids[i], more[0][i], ...)`."""
    head = _key(seed, (stage,))
    digests = []
    for texts in zip(uids, *more, strict=True):
        data = head
        for text in texts:
            part = text.encode("utf-8", "surrogatepass")
            data += len(part).to_bytes(4, "little") + part
        digests.append(hashlib.blake2b(data, digest_size=8).digest())
    return (np.frombuffer(b"".join(digests), "<u8") >> np.uint64(11)).astype(np.float64) * _TO_UNIT


def mixed(words: np.ndarray | np.uint64) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea, Flood, 2014): a bijection of uint64 that scatters their bits."""
    x = np.atleast_1d(np.asarray(words, np.uint64))
    x = (x ^ (x >> _SHIFTS[0])) * _MIX_1
    x = (x ^ (x >> _SHIFTS[1])) * _MIX_2
    return x ^ (x >> _SHIFTS[2])


def hashed_u64(texts: Iterable[str]) -> np.ndarray:
    """uint64 per text (BLAKE2b, 8 bytes): equal texts, equal numbers; others may share one by chance."""
    data = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(data, "<u8").astype(np.uint64)
