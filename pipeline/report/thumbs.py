"""Thumbnails are untrusted strings until they pass here: only a small, well-formed JPEG or PNG becomes a data URI.

The report stays a few megabytes: each section has its own share of bytes, and what does not fit becomes an empty frame.
"""

import base64
import binascii
import io
import re
from dataclasses import dataclass

from PIL import Image

_PREFIX = re.compile(r"data:(image/(?:jpeg|png));base64,")
_MAX_CHARS = 96 * 1024  # of one thumbnail; curation writes about 5 kB
_MAX_SIDE = 512


@dataclass(frozen=True)
class Picture:
    src: str
    width: int
    height: int


def checked(uri: str | None) -> Picture | None:
    """The picture of a data URI, rebuilt from its decoded bytes; None if it is not a small JPEG or PNG as declared.

    Only the header is parsed here (no pixels are decoded): type by content, sides at most 512.
    """
    if not uri or len(uri) > _MAX_CHARS or not (match := _PREFIX.match(uri)):
        return None
    try:
        body = base64.b64decode(uri[match.end() :], validate=True)
        with Image.open(io.BytesIO(body), formats=("JPEG", "PNG")) as image:
            kind, (width, height) = Image.MIME[image.format or ""], image.size
    except (binascii.Error, OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError):
        return None
    if kind != match.group(1) or not 0 < min(width, height) or max(width, height) > _MAX_SIDE:
        return None
    return Picture(f"data:{kind};base64,{base64.b64encode(body).decode()}", width, height)


class Album:
    """Hands out checked pictures until its share of bytes is used up."""

    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes

    def picture(self, uri: str | None) -> Picture | None:
        found = checked(uri)
        if found is None or len(found.src) > self.left:
            return None
        self.left -= len(found.src)
        return found
