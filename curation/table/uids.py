"""The identity of a pair, and the ranges of uids that buckets are."""

import hashlib


def uid_of_url(url: str) -> str:
    """32 hex digits (blake2b-128) naming a pair by its canonical image url."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def uid_of_image(sha256: str) -> str:
    """32 hex digits naming a pair that has no url by the sha256 (hex) of its image bytes."""
    return hashlib.blake2b(bytes.fromhex(sha256), digest_size=16).hexdigest()


def power_of_two(least: int) -> int:
    """The smallest that is at least `least` (and 1): ranges of uids are cut into that many."""
    return 1 << max(least - 1, 0).bit_length()


def bucket_range(bucket: int, buckets: int) -> tuple[str, str]:
    """The half-open range [low, high) of uid text of one of `buckets` (a power of two up to 65,536) buckets."""
    step = 2**32 // buckets
    low, high = bucket * step, (bucket + 1) * step
    return f"{low:08x}", f"{high:08x}" if high < 2**32 else "g"  # "g" sorts after every hex digit
