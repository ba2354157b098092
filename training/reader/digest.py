"""The digest that proves which pairs a step saw: the same for any number of ranks."""

from collections.abc import Iterable

import numpy as np

from pipeline.draws import hashed_u64

_WORD = 1 << 64


def digest_part(uids: Iterable[str]) -> int:
    """Sum of blake2b-64(uid) as a signed 64-bit integer that wraps: an int64 all-reduce may add the ranks' parts."""
    return int(hashed_u64(uids).sum(dtype=np.uint64).astype(np.int64))


def step_digest(total: int, count: int) -> str:
    """The digest of a step as logged, from the (wrapping) sum of all parts and the number of pairs of the global batch.

    A sum does not depend on the order of the rows, hence not on the number of ranks; masked pairs are counted too.
    """
    return f"{total % _WORD:016x}-{count}"
