"""A picture small enough for a page."""

import base64
import io

from PIL import Image

from pipeline.images.decoder import FORMATS, PILLOW_MAX_PIXELS, Refused, decode

SIDE, QUALITY = 128, 78


def thumbnail(body: bytes) -> str | None:
    """A data URI (a JPEG of at most SIDE pixels a side); None for what does not decode."""
    try:
        image, _ = decode(body, FORMATS, PILLOW_MAX_PIXELS // 4, 1 << 14)
    except Refused:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
