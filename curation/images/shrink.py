"""Images made smaller as they enter the pool: decoded once, where they are read or downloaded."""

from typing import NamedTuple

from pydantic import Field

from curation.images.resize import SizeSettings, encoded, resized
from pipeline.images.background import is_flat
from pipeline.images.decoder import Picture, Refused

VERSION = 2  # raise it when other bytes would come of the same image and settings
_FLAT = 64  # levels; beyond what any recipe would call one colour, so that all its pixels are there to be judged


class ShrinkSettings(SizeSettings):
    """Images of at most some size in the pool. An image stays as it is, each byte, when it is small enough or cannot be
    decoded, moves, lets its ground shine through, is nearly of one colour, or would not have fewer bytes.

    Everything that is said of an image but what is measured of its pixels is of the original: sha256, bytes, format,
    width and height.
    """

    quality: int = Field(default=95, ge=1, le=100, description="of jpg and webp")


class Shrunk(NamedTuple):
    """A smaller body of the format `ext`; size: of the original as displayed, in pixels."""

    body: bytes
    ext: str
    size: tuple[int, int]


def named_by(settings: ShrinkSettings | None) -> list[object] | None:
    """What decides which bytes are kept: part of the name of every part of a pool."""
    return None if settings is None else [VERSION, settings.model_dump(mode="json")]


def shrunk(body: bytes, settings: ShrinkSettings) -> Shrunk | None:
    """What is kept in place of `body`; None where that stays as it is."""
    try:
        picture = Picture(body)
        size = picture.size
        if settings.size_of(*size) == size or picture.is_animated:
            return None
        image = resized(picture, settings)
        if picture.clear_share() > 0:
            return None
    except Refused:
        return None
    if is_flat(image, _FLAT):
        return None
    made = encoded(image, settings)
    return Shrunk(made, settings.format, size) if len(made) < len(body) else None
