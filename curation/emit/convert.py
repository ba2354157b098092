"""What an image is written as: the bytes of the crawl untouched, or re-encoded by a fixed rule.

A JPEG that is made much smaller is decoded smaller, by a power of two (Picture.rgb): at least `_SPARE` times the size
that is wanted, where the levels of photographs differ from those made of all pixels by one on average, by 8 one in 100.
"""

import io

from PIL import Image

from curation.settings import EmitSettings
from pipeline.contract.pairs import EXTS
from pipeline.images.decoder import FORMATS, LARGEST_SIDE, PILLOW_MAX_PIXELS, PILLOW_NAMES, Picture

_SPARE = 2.0
_FILTERS = {name: Image.Resampling[name.upper()] for name in ("box", "hamming", "bicubic", "lanczos")}


def needs_conversion(ext: str, size: tuple[int, int], settings: EmitSettings) -> bool:
    """Whether an image of this format and displayed size is written as something else than its own bytes."""
    resize = settings.resize
    return ext not in EXTS or resize is not None and not (resize.keep_small and resize.size_of(*size) == size)


def convert(body: bytes, settings: EmitSettings) -> tuple[bytes, str, int, int]:
    """(bytes, ext, width, height): as the recipe resizes, else PNG; first frame, upright, opaque.

    Raises Refused when it cannot be decoded.
    """
    picture = Picture(body, FORMATS, PILLOW_MAX_PIXELS, LARGEST_SIDE)  # what a recipe let through
    resize, out = settings.resize, io.BytesIO()
    if resize is None:
        image = picture.rgb()
        image.save(out, "PNG", compress_level=6)
        return out.getvalue(), "png", *image.size
    width, height = picture.size
    size = resize.size_of(width, height)
    image, box = picture.reduced(max(1.0, min(width / size[0], height / size[1]) / _SPARE))
    if image.size != size:
        image = image.resize(size, _FILTERS[resize.filter], box, reducing_gap=3.0)
    if resize.format == "png":
        image.save(out, "PNG", compress_level=6)
    else:
        image.save(out, PILLOW_NAMES[resize.format], quality=resize.quality)
    return out.getvalue(), resize.format, *size
