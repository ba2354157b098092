"""What an image is written as: the bytes of the pool untouched, or re-encoded by a fixed rule (images/resize.py)."""

import io

from curation.images.resize import encoded, resized
from curation.settings import EmitSettings
from pipeline.contract.pairs import EXTS
from pipeline.images.decoder import FORMATS, LARGEST_SIDE, PILLOW_MAX_PIXELS, Picture


def needs_conversion(ext: str, size: tuple[int, int], settings: EmitSettings) -> bool:
    """Whether an image of this format and displayed size is written as something else than its own bytes."""
    resize = settings.resize
    return ext not in EXTS or resize is not None and not (resize.keep_small and resize.size_of(*size) == size)


def convert(body: bytes, settings: EmitSettings) -> tuple[bytes, str, int, int]:
    """(bytes, ext, width, height): as the recipe resizes, else PNG; first frame, upright, opaque.

    Raises Refused when it cannot be decoded.
    """
    picture = opened(body)
    if settings.resize is not None:
        image = resized(picture, settings.resize)
        return encoded(image, settings.resize), settings.resize.format, *image.size
    image, out = picture.rgb(), io.BytesIO()
    image.save(out, "PNG", compress_level=6)
    return out.getvalue(), "png", *image.size


def opened(body: bytes) -> Picture:
    """What a recipe let through. Raises Refused as the decoder."""
    return Picture(body, FORMATS, PILLOW_MAX_PIXELS, LARGEST_SIDE)
