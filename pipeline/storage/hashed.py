"""Hashes of files: of what is being written, without a second read, and of what lies there."""

import hashlib
from typing import IO, Any

from pipeline.storage.files import RangeReader, size

HASH_BLOCK = 4 << 20  # bytes


class HashedWriter:
    """Writes through to an open file, counting and hashing the bytes handed to the system."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._digest, self.position = out, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        self._out.write(data)
        self._digest.update(data)
        self.position += len(data)

    def sha256(self) -> str:
        return self._digest.hexdigest()


def sha256_of(url: str) -> str:
    """Hex sha256 of the file, read in blocks."""
    return _fed(hashlib.sha256(), url)


def blake2b_of(url: str) -> str:
    """32 hex: blake2b-128 of the file, read in blocks."""
    return _fed(hashlib.blake2b(digest_size=16), url)


def _fed(digest: Any, url: str) -> str:
    reader, total = RangeReader(url), size(url)
    for start in range(0, total, HASH_BLOCK):
        digest.update(reader.read(start, min(start + HASH_BLOCK, total)))
    return digest.hexdigest()
