"""Sets of up to hundreds of millions of texts or hashes in plain sorted arrays.

KeySet holds 16 bytes a text: at 1e8 entries and 1e10 texts asked for, two different texts meet with a chance of 3e-21,
so a hash that is found is the text. NearSet holds 8 bytes a hash and band, radius + 1 of them: two hashes at most
`radius` bits apart agree in at least one (pigeonhole), so nothing is missed and every find is counted out.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from curation.images.phash import HASH_BITS, hamming

_SOME = 1 << 18  # entries hashed at once
_MOST_COMPARED = 1 << 20  # pairs of hashes held at once
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


def keys(texts: Iterable[str]) -> np.ndarray:
    """[text, 2] uint64, BLAKE2b of 16 bytes."""
    data = b"".join(hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).digest() for t in texts)
    return np.frombuffer(data, "<u8").reshape(-1, 2)


class KeySet:
    def __init__(self, texts: Iterable[str]) -> None:
        found = _gathered(texts, keys, np.zeros((0, 2), np.uint64))
        high, low = np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1])
        del found  # of many entries every copy counts
        order = np.argsort(high)  # those that share a first half are looked through
        self._high, self._low = high[order], low[order]

    @classmethod
    def of_sorted(cls, high: np.ndarray, low: np.ndarray) -> "KeySet":
        """Of both halves of the keys, by the first: they are not copied."""
        made = cls.__new__(cls)
        made._high, made._low = high, low
        return made

    def __len__(self) -> int:
        return len(self._high)

    def has(self, texts: Sequence[str]) -> np.ndarray:
        """bool [text]."""
        asked = keys(texts)
        order = np.argsort(asked[:, 0])  # a list on disk is read front to back
        found = np.zeros(len(asked), bool)
        found[order] = self._has(asked[order])
        return found

    def _has(self, asked: np.ndarray) -> np.ndarray:
        high, low = np.ascontiguousarray(asked[:, 0]), asked[:, 1]
        start, stop = (np.searchsorted(self._high, high, side) for side in ("left", "right"))
        found = np.zeros(len(asked), bool)
        left = np.flatnonzero(start < stop)
        while len(left):  # one turn, but for entries that share a first half or stand there twice
            found[left] |= self._low[start[left]] == low[left]
            start[left] += 1
            left = left[(start[left] < stop[left]) & ~found[left]]
        return found


class NearSet:
    def __init__(self, hashes: Iterable[int], radius: int) -> None:
        found = _gathered(hashes, lambda some: np.array(some, np.uint64), np.zeros(0, np.uint64))
        self.hashes, self.radius = np.unique(found), radius
        edges = [HASH_BITS * band // (radius + 1) for band in range(radius + 2)]
        self._bands = [(start, stop - start) for start, stop in zip(edges[:-1], edges[1:], strict=True)]
        self._sorted = [np.sort(_rotated(self.hashes, start)) for start, _ in self._bands]

    def near(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(number of the hash asked for, listed hash) of all within the radius, each once, by number, then by how far
        they are apart, then by the listed hash."""
        asked, listed = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        for (at, width), entries in zip(self._bands, self._sorted, strict=True):
            turned = _rotated(hashes, at)
            rest = _ALL >> np.uint64(width) if width < HASH_BITS else np.uint64(0)
            start = np.searchsorted(entries, turned & ~rest, "left")
            stop = np.searchsorted(entries, turned | rest, "right")
            for who, where in ranges(start, stop):
                near = hamming(turned[who], entries[where]) <= self.radius
                asked.append(who[near])
                listed.append(_rotated(entries[where[near]], (HASH_BITS - at) % HASH_BITS))
        who, found = np.concatenate(asked), np.concatenate(listed)
        order = np.lexsort([found, hamming(hashes[who], found), who])
        who, found = who[order], found[order]
        new = np.ones(len(who), bool)
        new[1:] = (np.diff(who) != 0) | (found[1:] != found[:-1])
        return who[new], found[new]


def _rotated(hashes: np.ndarray, bits: int) -> np.ndarray:
    """The bit `bits` from the top comes first."""
    if not bits:
        return hashes
    return (hashes << np.uint64(bits)) | (hashes >> np.uint64(HASH_BITS - bits))


def ranges(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(number of the range, place) of all places in all ranges [start, stop), some at a time."""
    start, left = start.copy(), np.flatnonzero(start < stop)
    while len(left):
        some = left[:_MOST_COMPARED]
        count = np.minimum(stop[some] - start[some], _MOST_COMPARED // len(some))
        who = np.repeat(some, count)
        within = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
        yield who, start[who] + within
        start[some] += count
        left = left[start[left] < stop[left]]


def _gathered(values: Iterable[Any], made: Callable[[list[Any]], np.ndarray], empty: np.ndarray) -> np.ndarray:
    """`made` of some values at a time, as one array."""
    parts, values = [empty], iter(values)
    while some := list(itertools.islice(values, _SOME)):
        parts.append(made(some))
    return np.concatenate(parts)
