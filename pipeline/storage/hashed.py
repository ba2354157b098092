"""Hashes of files: of what is being written, without a second read, and of what lies there."""

import hashlib
from collections.abc import Sequence
from typing import IO, Any

from pipeline.storage.files import RangeReader, size

HASH_BLOCK = 4 << 20  # bytes
PIECE_BYTES = 256 << 20  # part of every large file's name: never changed


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


def blake2b_of(url: str, start: int = 0, stop: int | None = None) -> str:
    """32 hex: blake2b-128 of the file (of its bytes [start, stop)), read in blocks."""
    return _fed(hashlib.blake2b(digest_size=16), url, start, stop)


def pieces_of(size: int) -> list[tuple[int, int]]:
    """The byte ranges whose `blake2b_of` name a file of `size` bytes, each hashed on its own, wherever."""
    return [(start, min(start + PIECE_BYTES, size)) for start in range(0, max(size, 1), PIECE_BYTES)]


def digest_of_pieces(digests: Sequence[str]) -> str:
    """32 hex naming a file by those of its pieces: of a file of one piece, its `blake2b_of`."""
    if len(digests) == 1:
        return digests[0]
    # A hash of its own kind: no small file that holds these digits is taken for the large one.
    return hashlib.blake2b("".join(digests).encode(), digest_size=16, person=b"pieces").hexdigest()


def _fed(digest: Any, url: str, start: int = 0, stop: int | None = None) -> str:
    reader, end = RangeReader(url), size(url) if stop is None else stop
    for at in range(start, end, HASH_BLOCK):
        digest.update(reader.read(at, min(at + HASH_BLOCK, end)))
    return digest.hexdigest()
