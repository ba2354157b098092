"""Pictures that cost next to nothing to make, every number another one."""

import struct
import zlib

import numpy as np

from curation.images.phash import SIDE
from pipeline.draws import mixed

_PATCHES = 5
"""A side. Of 4 x 4 the sketches have so few numbers that strangers are near each other, the more the larger a crawl."""


def squares(numbers: np.ndarray) -> np.ndarray:
    """Grey squares, uint8 [number, pixel]: patches, of levels that each number has for itself."""
    levels = np.stack([mixed(numbers + np.uint64(at)) % np.uint64(256) for at in range(_PATCHES**2)], axis=1)
    place = np.arange(SIDE) * _PATCHES // SIDE
    patches = levels.astype(np.uint8).reshape(-1, _PATCHES, _PATCHES)
    return patches[:, place[:, None], place[None]].reshape(-1, SIDE**2)


def png(number: int) -> bytes:
    """2 x 2 pixels."""
    pixels = struct.pack(">Q", number)
    return _encoded(2, b"\0" + pixels[:6] + b"\0" + pixels[2:8])


def drawing(number: int) -> bytes:
    """32 x 32 pixels in 16 patches of any colour: what a decoder takes for a picture."""
    patches = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    rows = np.concatenate([np.zeros((32, 1), np.uint8), patches.reshape(32, 96)], axis=1)
    return _encoded(32, rows.tobytes())


def _encoded(side: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
