"""Background of a transparent picture, and the fixed rule by which any picture becomes opaque 8-bit RGB."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0)}
FLAT = 8  # greatest difference of levels that still counts as one colour
_BAND = 1 << 22  # pixels composited at a time: whole copies of 64 megapixels in four channels took 1.7 GB


def opaque(image: Image.Image, ground: tuple[int, int, int], depth: int = 8) -> Image.Image:
    """8-bit RGB: alpha composited on `ground`, 16-bit levels cut to their high byte; the image itself if it is that.

    A drawing in the colour of the ground would not be seen, so it is put on the opposite one: white on clear is white
    on black. depth: bits of a sample in the file.
    """
    key = _clear(image, depth)
    if image.mode == "RGB" and key is None:
        return image
    if not _may_be_clear(image, key):
        return image.convert("RGB")
    out = Image.new("RGB", image.size, ground)
    for top, levels, seen in _bands(image, key):
        out.paste(levels, (0, top), seen)
    if is_flat(out):
        other = Image.new("RGB", image.size, tuple(255 - level for level in ground))
        for top, levels, seen in _bands(image, key):
            other.paste(levels, (0, top), seen)
        if not is_flat(other):
            return other
    return out


def clear_share(image: Image.Image, depth: int = 8) -> float:
    """How much of the picture the ground shows through: 0 opaque, 1 nothing but ground."""
    key = _clear(image, depth)
    if not _may_be_clear(image, key):
        return 0.0
    seen = 0
    for _, levels, mask in _bands(image, key):
        share = np.array(mask.histogram()) if mask is not None else np.array([0] * 255 + [levels.width * levels.height])
        seen += int((share * np.arange(256)).sum())
    return 1 - seen / (255 * image.width * image.height)


def is_flat(image: Image.Image, most: int = FLAT) -> bool:
    """Whether an RGB picture is of one colour: no channel's levels differ by more than `most`."""
    few = image.resize(
        (min(16, image.width), min(16, image.height)), Image.Resampling.NEAREST
    )  # most are told by these
    return _spread(few) <= most and _spread(image) <= most


def _spread(image: Image.Image) -> int:
    ranges: Any = image.getextrema()  # (low, high) of each channel
    return max(high - low for low, high in ranges)


def _may_be_clear(image: Image.Image, key: object) -> bool:
    """Or has levels of 16 bits, which Pillow's own conversion clips to white above 255."""
    deep = image.mode.startswith("I")
    return deep or key is not None or image.mode.endswith(("A", "a")) or _has_clear_colours(image)


def _bands(image: Image.Image, key: object) -> Iterator[tuple[int, Image.Image, Image.Image | None]]:
    """(top, RGB, how much of each pixel is seen: all when None) from the top down."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.mode.startswith("I"):
            levels = np.asarray(band)
            seen = Image.fromarray(levels != key).convert("L") if isinstance(key, int) else None
            high = (np.clip(levels, 0, 65535) >> 8).astype(np.uint8)
            yield top, Image.fromarray(high).convert("RGB"), seen
        else:
            band.info["transparency"] = key
            if key is None:
                del band.info["transparency"]
            layer = band.convert("RGBA")
            yield top, layer.convert("RGB"), layer.getchannel("A")


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
