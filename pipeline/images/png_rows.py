"""Whether a PNG's data holds all of its rows: where the packed stream ends early by its own word, Pillow leaves the
rest as zeros and says nothing."""

import zlib
from collections.abc import Iterator

from PIL import Image

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced picture: first column and row, and the steps to the next ones (ISO/IEC 15948, 8.2)."""
_PIECE = 1 << 18


def lacks_rows(body: bytes, image: Image.Image) -> bool:
    """`image`: `body` decoded by Pillow. Unpacks the data again, without keeping it, only where it may lack rows: the
    last one is nothing but zeros, or it is interlaced."""
    interlaced = body[28:29] == b"\1"
    if not interlaced and any(image.crop((0, image.height - 1, image.width, image.height)).tobytes()):
        return False
    bits = body[24] * _SAMPLES.get(body[25], 1)
    width, height = (int.from_bytes(body[at : at + 4], "big") for at in (16, 20))
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for left, top, across, down in passes:
        columns, rows = -(-max(width - left, 0) // across), -(-max(height - top, 0) // down)
        expected += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    try:
        return _unpacked(body, expected) < expected
    except zlib.error:  # behind what Pillow has read
        return False


def _unpacked(body: bytes, most: int) -> int:
    """Bytes that the data unpacks to, counted up to about `most`."""
    inflate, found = zlib.decompressobj(), 0
    for data in _data(body):
        while data and found < most:
            found += len(inflate.decompress(data, _PIECE))
            if inflate.eof:
                return found
            data = inflate.unconsumed_tail
    while found < most and (more := inflate.decompress(inflate.unconsumed_tail, _PIECE)):
        found += len(more)
    return found


def _data(body: bytes) -> Iterator[bytes]:
    """What its IDAT chunks hold, in order."""
    at, view = 8, memoryview(body)
    while at + 8 <= len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        kind = body[at + 4 : at + 8]
        if kind == b"IDAT":
            yield bytes(view[at + 8 : at + 8 + size])
        elif kind == b"IEND":
            return
        at += 12 + size
