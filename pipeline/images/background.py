"""Background of a transparent picture, and the fixed rule by which any picture becomes opaque 8-bit RGB."""

import numpy as np
from PIL import Image

BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0)}
_BAND = 1 << 22  # pixels composited at a time: whole copies of 64 megapixels in four channels took 1.7 GB


def opaque(image: Image.Image, ground: tuple[int, int, int], depth: int = 8) -> Image.Image:
    """8-bit RGB: alpha composited on `ground`, 16-bit levels cut to their high byte; the image itself if it is that.

    depth: bits of a sample in the file.
    """
    key = _clear(image, depth)
    if image.mode == "RGB" and key is None:
        return image
    deep = image.mode.startswith("I")  # Pillow's own conversion clips everything above 255 to white
    if not deep and key is None and not image.mode.endswith(("A", "a")) and not _has_clear_colours(image):
        return image.convert("RGB")
    out = Image.new("RGB", image.size, ground)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        if deep:
            levels = np.asarray(band)
            seen = Image.fromarray(levels != key) if isinstance(key, int) else None
            high = (np.clip(levels, 0, 65535) >> 8).astype(np.uint8)
            out.paste(Image.fromarray(high).convert("RGB"), (0, top), seen)
        else:
            band.info["transparency"] = key
            if key is None:
                del band.info["transparency"]
            layer = band.convert("RGBA")
            below = Image.new("RGBA", layer.size, (*ground, 255))
            below.alpha_composite(layer)
            out.paste(below.convert("RGB"), (0, top))
    return out


def _has_clear_colours(image: Image.Image) -> bool:
    return image.mode == "P" and image.palette is not None and image.palette.mode.endswith("A")


def _clear(image: Image.Image, depth: int) -> object:
    """The level, colour or palette entries said to be clear, on the scale of the pixels: Pillow leaves the file's."""
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple):
        if max(key) >> depth:
            return None
        return tuple(level >> 8 for level in key) if depth == 16 else key
    if image.mode == "L" and isinstance(key, int) and depth <= 8:
        return None if key >> depth else key * 255 // ((1 << depth) - 1)
    return key
