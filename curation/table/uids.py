"""The identity of a pair, and the ranges of uids that buckets are."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.table.arrow import whole

DIGITS = 32
"""Of a uid, hexadecimal ones."""
TEXT = np.dtype(f"S{DIGITS}")
"""A uid as a fixed text of numpy, which sorts as it does."""
_FIRST, _AFTER_LAST = "0", "g"  # "g" sorts after every hex digit


def uid_of_url(url: str) -> str:
    """32 hex digits (blake2b-128) naming a pair by its canonical image url."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def uid_of_image(sha256: str) -> str:
    """32 hex digits naming a pair that has no url by the sha256 (hex) of its image bytes."""
    return hashlib.blake2b(bytes.fromhex(sha256), digest_size=16).hexdigest()


def power_of_two(least: int) -> int:
    """The smallest that is at least `least` (and 1): ranges of uids are cut into that many."""
    return 1 << max(least - 1, 0).bit_length()


@dataclass(frozen=True)
class Cut:
    """Where one bucket ends and the next begins. Bucket i holds the uids from edges[i - 1] up to below edges[i].

    Edges ascend; two equal ones leave a bucket without uids between them.
    """

    edges: tuple[str, ...] = ()

    @classmethod
    def even(cls, buckets: int) -> "Cut":
        """Ranges of equal width: of equal size where uids are hashes."""
        return cls(tuple(f"{bucket * 2**128 // buckets:032x}" for bucket in range(1, buckets)))

    @classmethod
    def at_quantiles(cls, quantiles: Sequence[str], buckets: int) -> "Cut":
        """Ranges of equal size: `quantiles` are the uids, from the smallest to the largest, with equally many rows
        between each and the next. Between two of them rows are taken to lie evenly."""
        if len(quantiles) < 2:
            return cls.even(buckets)
        numbers, edges = [int(uid, 16) for uid in quantiles], []
        for bucket in range(1, buckets):
            at, rest = divmod(bucket * (len(numbers) - 1), buckets)
            edges.append(numbers[at] + (numbers[at + 1] - numbers[at]) * rest // buckets)
        return cls(tuple(f"{edge:032x}" for edge in edges))

    @property
    def buckets(self) -> int:
        return len(self.edges) + 1

    def range_of(self, bucket: int, stop: int | None = None) -> tuple[str, str]:
        """The half-open range [low, high) of uid text of one bucket, or of those from it up to below `stop`."""
        stop = bucket + 1 if stop is None else stop
        return self.edges[bucket - 1] if bucket else _FIRST, [*self.edges[stop - 1 : stop], _AFTER_LAST][0]

    def bucket_of(self, uids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """The bucket of each uid, int64."""
        return np.searchsorted(np.array(self.edges, TEXT), texts(uids), side="right")


def texts(uids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Uids as TEXT."""
    uids = whole(uids)
    try:
        fixed = uids.cast(pa.binary(TEXT.itemsize))
    except pa.ArrowInvalid:  # shorter ones: numpy fills them up with what sorts first
        return np.array(uids.to_pylist(), TEXT)
    return np.frombuffer(fixed.buffers()[1], TEXT, len(fixed), fixed.offset * TEXT.itemsize)


def quantiles(uids: np.ndarray, weights: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of `uids` (S32, in any order, each standing for `weights` rows), ascending, from the smallest to
    the largest, with about as many rows between each and the next."""
    order = np.lexsort((weights, uids))
    reach = np.cumsum(weights[order])
    if not len(reach):
        return uids
    levels = np.linspace(0, reach[-1], min(most, len(reach)))
    return uids[order][np.minimum(np.searchsorted(reach, levels), len(reach) - 1)]


def between(uids: Sequence[str], phase: int, each: int = 1) -> list[str]:
    """In place of uids at equal distances of a table's rows, ascending, `each` between any and the next, at equal
    distances, the first of them at one `phase` (of 2^64) of these. Samples of many tables of hashes are otherwise
    nearly the same rows of each, and lie in heaps with nothing between."""
    numbers = [int(uid, 16) for uid in uids]
    places = [(at << 64) + phase for at in range(each)]
    steps = zip(numbers[:-1], numbers[1:], strict=True)
    return [f"{low + (high - low) * place // (each << 64):0{DIGITS}x}" for low, high in steps for place in places]


def evenly(rows: int, most: int) -> np.ndarray:
    """Numbers of at most `most` of `rows` rows, as far apart as can be, the first and the last among them."""
    return np.unique(np.linspace(0, max(rows - 1, 0), min(rows, most)).round().astype(np.int64))
