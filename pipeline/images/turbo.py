"""A plain JPEG decoded by libjpeg-turbo through simplejpeg: the pixels that Pillow gives, sooner where they are few.

Pillow takes the file in pieces of 64 kB and the picture row by row; simplejpeg is one call. Both are libjpeg-turbo at
its defaults, so pixels are the same, at every scale. What they do not share is how damage is told: Pillow lets pass
what libjpeg only warns of, and refuses a file that ends too early. So here a single warning means None, and Pillow
judges: outcomes are Pillow's, with this package or without it.
"""

import functools
from typing import Any

import numpy as np
from PIL import Image

_LEAST_SIDE = 8  # of the longer one; below it, several scales give one size, by which simplejpeg is told the scale
_MOST_PIXELS = 1 << 17  # 360 x 360; above about twice that, its array costs more to turn into an image than it saves
_MAX_SCANNED_PIXELS = 160_000_000  # what is damaged is decoded twice: no more of it than a fraction of a second's


def decoded(header: Any, body: bytes, scans: int) -> Image.Image | None:
    """RGB of all or, after its `draft`, of a half to an eighth of a side; None where Pillow has to decode.

    header: Pillow's image of `body`, of which no pixel is decoded yet.
    """
    decode, (width, height) = _decoder(), header.size
    if decode is None or header.mode not in ("RGB", "L") or not header.tile:
        return None
    if max(width, height) < _LEAST_SIDE or width * height > _MOST_PIXELS:
        return None
    scale = (header.decoderconfig or (1,))[0] or 1
    if scans * width * height * scale**2 > _MAX_SCANNED_PIXELS or b"\xff\xd9" not in body[-64:]:
        return None
    levels_RC3 = np.empty((height, width, 3), np.uint8)  # so that no header makes it allocate more
    try:
        found = decode(body, "RGB", min_width=width, min_height=height, min_factor=scale, buffer=levels_RC3)
    except ValueError:  # all that it raises: errors and warnings of libjpeg, a buffer that does not fit
        return None
    if found.shape != levels_RC3.shape:
        return None
    image = Image.fromarray(found)
    image.info = header.info
    return image


@functools.cache
def _decoder() -> Any:
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    return decode_jpeg
