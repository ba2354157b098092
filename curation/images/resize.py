"""A picture made smaller and encoded anew by a fixed rule, where shards are written and where images enter the pool.

A JPEG that is made much smaller is decoded smaller, by a power of two (Picture.reduced), which gives means of areas.
What is left is at least twice, where the levels of photographs differ from those made of all pixels by one on average,
by 8 one in 100. The filter `box` asks for means of areas, so by it 1.5 times, or nothing, may be left, and 1.25 times
where all pixels would have to be decoded else: a picture of 2.5 to 3 times the size. Against exact means, levels of
photographs (1/f noise) and drawings of nine sizes differ on average, and one in 100, by

    decoded whole                      0.4 to 0.7, 2       0.2 to 0.3, 4 to 8
    decoded smaller, 1.5 to 2 left     0.8 to 1.4, 3 to 5  0.3 to 0.5, 6 to 11
    decoded smaller, 1.25 to 1.5 left  1.5 to 2.5, 5 to 9  0.5 to 1.0, 13 to 25
    Pillow's own box filter            1.4 to 2.8, 6 to 10 0.4 to 0.8, 11 to 23  all pixels, each counted whole or not
"""

import io
from typing import Literal

from PIL import Image
from pydantic import Field, model_validator

from pipeline.images.decoder import PILLOW_NAMES, Picture
from pipeline.settings import Settings

_SPARE = 2.0
_SPARE_OF_MEANS, _LEAST_SPARE_OF_MEANS = 1.5, 1.25
_FILTERS = {name: Image.Resampling[name.upper()] for name in ("hamming", "bicubic", "lanczos")}


class SizeSettings(Settings):
    """Images of at most some size, re-encoded: first frame, upright, opaque, 8-bit RGB, without metadata.

    Sides are those of the picture as displayed; the ratio is kept, and none is made larger.
    """

    max_side: int | None = Field(default=None, ge=16, le=16384, description="most pixels of the longer side")
    min_side: int | None = Field(
        default=None, ge=16, le=16384, description="most pixels of the shorter side, in place of max_side"
    )
    format: Literal["jpg", "png", "webp"] = "jpg"
    quality: int = Field(default=92, ge=1, le=100, description="of jpg and webp")
    filter: Literal["box", "hamming", "bicubic", "lanczos"] = Field(
        default="lanczos",
        description="box is the mean of an area, for which JPEG is decoded least; hamming nearly that",
    )

    @model_validator(mode="after")
    def _one_side(self) -> "SizeSettings":
        if (self.max_side is None) == (self.min_side is None):
            raise ValueError("expected one of max_side and min_side")
        return self

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """What a picture of so many pixels is made into."""
        side, most = (max(width, height), self.max_side) if self.max_side else (min(width, height), self.min_side)
        if not most or side <= most:
            return width, height
        return max(1, round(width * most / side)), max(1, round(height * most / side))


def resized(picture: Picture, settings: SizeSettings) -> Image.Image:
    """The picture as displayed, of the size that is asked for. Raises Refused when it cannot be decoded."""
    width, height = picture.size
    size = settings.size_of(width, height)
    spare, is_mean = min(width / size[0], height / size[1]), settings.filter == "box"
    exactly = is_mean and (width, height) in ((n * size[0], n * size[1]) for n in (2, 4, 8))
    image, box = picture.reduced(spare if exactly else spare / _left(spare, is_mean))
    if image.size == size:
        return image
    across, down = image.width // size[0], image.height // size[1]
    if is_mean and box == (0, 0, across * size[0], down * size[1]):
        return image.reduce((across, down))  # the mean of whole pixels, four times as fast
    kind = Image.Resampling.HAMMING if is_mean else _FILTERS[settings.filter]
    return image.resize(size, kind, box, reducing_gap=3.0)


def _left(spare: float, is_mean: bool) -> float:
    """How much smaller what was decoded is to be made, at least."""
    if not is_mean:
        return _SPARE
    return _SPARE_OF_MEANS if spare >= 2 * _SPARE_OF_MEANS else _LEAST_SPARE_OF_MEANS


def encoded(image: Image.Image, settings: SizeSettings) -> bytes:
    """Its bytes in the format that is asked for."""
    out = io.BytesIO()
    if settings.format == "png":
        image.save(out, "PNG", compress_level=6)
    else:
        image.save(out, PILLOW_NAMES[settings.format], quality=settings.quality)
    return out.getvalue()
