"""What an image is written as: the bytes of the crawl untouched, or re-encoded by a fixed rule."""

import io

from PIL import Image

from curation.settings import EmitSettings
from pipeline.images.decoder import FORMATS, LARGEST_SIDE, PILLOW_MAX_PIXELS, decode


def convert(body: bytes, settings: EmitSettings) -> tuple[bytes, str, int, int]:
    """(bytes, ext, width, height): JPEG when the recipe resizes, else PNG; first frame, upright, on white.

    Raises Refused when it cannot be decoded.
    """
    image, _ = decode(body, FORMATS, PILLOW_MAX_PIXELS, LARGEST_SIDE)  # what a recipe let through
    out = io.BytesIO()
    if settings.resize is None:
        image.save(out, "PNG", compress_level=6)
        return out.getvalue(), "png", *image.size
    scale = settings.resize.max_side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.save(out, "JPEG", quality=settings.resize.quality)
    return out.getvalue(), "jpg", *image.size
