"""Whether a JPEG's data holds its blocks: where they end before the end mark, libjpeg fills up with grey and only warns
of it, and Pillow says nothing.

The warning itself would be of no use: a stray byte that hurts nothing has one, too. What decides is whether data could
still be taken. More of them in front of the end mark change the picture of a file that lacks blocks, and of no file
that has them all, whatever else is wrong with it. Progressive files begin with a coarse picture of all blocks: those
that have nothing else were cut in the midst of it.
"""

import re
from collections.abc import Callable, Iterator

from PIL import Image, ImageChops

_MARKER = re.compile(rb"\xff([^\x00\xff])")
_SOS, _EOI = 0xDA, 0xD9
_FRAMES = frozenset([*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)])
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_BARE = frozenset([0x01, *range(0xD0, 0xDA)])  # markers without a length
_RESTARTS = [b"\xff%c" % mark for mark in range(0xD0, 0xD8)]
_NOISE = bytes([0, *(1 + (31 * n + n * n // 7) % 251 for n in range(96))])  # the zero makes data of a last 255
_MIDDLE, _ROUNDING = 128, 2  # level of a block without data; its colours may be mixed with those beside it


def lacks_blocks(body: bytes, image: Image.Image, decoded: Callable[[bytes], Image.Image]) -> bool:
    """`image`: `body` as Pillow has `decoded` it. Decodes it again only where the last pixel is as light as a block
    without data, so that the last block alone may lack some. What later scans of a progressive file would have made
    sharper is not missed."""
    frame, components, scans = _told(body)
    if frame in _PROGRESSIVE:
        return all(first == 0 for _, first in scans)
    is_interleaved = next((count for count, _ in scans), 0) == components  # else one may end before the others
    if is_interleaved and abs(_lightness(image) - _MIDDLE) > _ROUNDING:
        return False
    end = next((at - 2 for kind, at in _markers(body) if kind == _EOI), 0)
    if not end:
        return False
    try:
        other = decoded(body[:end] + _more(body, end) + body[end:])
    except Exception:  # they were taken, and were no picture
        return True
    return other.size != image.size or ImageChops.difference(other, image).getbbox() is not None


def _more(body: bytes, end: int) -> bytes:
    """Data of what follows there, and behind the restart that a decoder waits for then."""
    last = max(range(8), key=lambda number: body.rfind(_RESTARTS[number], 0, end))
    number = (last + 1) % 8 if body.rfind(_RESTARTS[last], 0, end) >= 0 else 0
    return _NOISE + _RESTARTS[number] + _NOISE


def _lightness(image: Image.Image) -> float:
    """Of the last pixel: what no other block has a share in."""
    last = image.getpixel((image.width - 1, image.height - 1))
    if isinstance(last, tuple):
        return last[3] if len(last) == 4 else 0.299 * last[0] + 0.587 * last[1] + 0.114 * last[2]
    return last or 0


def _told(body: bytes) -> tuple[int, int, list[tuple[int, int]]]:
    """The marker of its frame, how many components that has, and of each scan up to the first fine one, how many it has
    and the first of its frequencies."""
    frame = components = 0
    scans: list[tuple[int, int]] = []
    for kind, at in _markers(body):
        if kind in _FRAMES and not frame:
            frame, components = kind, int.from_bytes(body[at + 7 : at + 8])
        elif kind == _SOS:
            count = int.from_bytes(body[at + 2 : at + 3])
            scans.append((count, int.from_bytes(body[at + 3 + 2 * count : at + 4 + 2 * count])))
            if frame not in _PROGRESSIVE or scans[-1][1]:
                break
    return frame, components, scans


def _markers(body: bytes) -> Iterator[tuple[int, int]]:
    """(marker, where what it says begins) up to the end mark."""
    at = 2
    while match := _MARKER.search(body, at):
        kind, at = match[1][0], match.end()
        yield kind, at
        if kind == _EOI:
            return
        if kind not in _BARE:
            at += max(2, int.from_bytes(body[at : at + 2]))
