"""From hostile bytes to the picture a person would see: one decoder, few formats, caps read from the header.

Decoders are where crawled bytes hurt: heap overflows, decompression bombs, files that include other files. So only the
formats asked for are opened (no plugin scan), sizes are checked before a pixel is decoded, only the first frame is
looked at, truncated files are refused and SVG is never rendered.
"""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from curation.magic import image_ext

# Pillow's own limit, which the caps must not exceed: beyond it, it would refuse by itself.
PILLOW_MAX_PIXELS = 89_478_485
PILLOW_NAMES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF"}


class Refused(Exception):
    """Carries the reason a picture is not to be had; never leaves curation."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(body: bytes, formats: tuple[str, ...], max_pixels: int, max_side: int) -> tuple[Image.Image, str]:
    """The first frame, upright, RGB, on white; and its format as in `formats`.

    Raises Refused with one of: svg, format, side_cap, pixel_cap, metadata_cap, truncated, not_decodable.
    """
    ext = image_ext(body)
    if ext == "svg":
        raise Refused("svg")
    if ext and ext not in formats:
        raise Refused("format")
    if not ext:
        raise Refused("not_decodable")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(body), formats=(PILLOW_NAMES[ext],)) as image:
                _check_size(image, max_pixels, max_side)
                return displayed(image), ext
    except Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("pixel_cap") from None
    except Exception as error:  # decoders raise what they like: OSError, SyntaxError, struct.error, ValueError, ...
        raise Refused(_reason(body, ext, str(error))) from None


def displayed(image: Image.Image) -> Image.Image:
    """The image as shown: EXIF orientation applied, transparency on white, 8-bit RGB."""
    image.load()
    return to_rgb(_upright(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB by a fixed rule: alpha composited on white, 16-bit levels cut to their high byte."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        return Image.fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        return ground.convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _check_size(image: Image.Image, max_pixels: int, max_side: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise Refused("not_decodable")
    if max(width, height) > max_side:
        raise Refused("side_cap")
    if width * height > max_pixels:
        raise Refused("pixel_cap")


def _reason(body: bytes, ext: str, message: str) -> str:
    """Why decoding failed: cut short, when the message or the container says so."""
    if "ecompressed data too large" in message or "too much memory used" in message.lower():
        return "metadata_cap"
    cut = {
        "jpg": b"\xff\xd9" not in body[-64:],
        "png": b"IEND" not in body[-64:],
        "webp": int.from_bytes(body[4:8], "little") + 8 > len(body),
        "gif": b"\x3b" not in body[-64:],
        "bmp": int.from_bytes(body[2:6], "little") > len(body),
    }
    return "truncated" if "truncated" in message.lower() or cut.get(ext, False) else "not_decodable"
