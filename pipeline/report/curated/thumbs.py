"""Thumbnails are untrusted strings until they pass here: only a small, well-formed JPEG or PNG becomes a data URI.

The page has so many bytes for pictures: the first of every group come first, and what does not fit is an empty frame.
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
_TAG = 1500  # bytes around it: the element, and what it says in words


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


class Frame:
    """A place on the page for a picture. `picture`: None where there is none, or none yet; `is_left_off`: there is one,
    which did not fit."""

    def __init__(self, found: Picture | None) -> None:
        self._found, self._is_shown = found, False

    @property
    def picture(self) -> Picture | None:
        return self._found if self._is_shown else None

    @property
    def is_left_off(self) -> bool:
        return self._found is not None and not self._is_shown

    def settle(self, left: int) -> int:
        """Shows it if it fits into `left` bytes; returns what is left then."""
        cost = _TAG + len(self._found.src) if self._found else 0
        self._is_shown = 0 < cost <= left
        return left - cost if self._is_shown else left


class Album:
    """All pictures that a page would show, and which of them do."""

    def __init__(self) -> None:
        self._frames: list[tuple[int, Frame]] = []
        self._known: dict[str | None, Picture | None] = {}

    def frame(self, uri: str | None, rank: int = 0) -> Frame:
        """`rank`: its place in its group; smaller ones are served first."""
        if uri not in self._known:
            self._known[uri] = checked(uri)
        found = Frame(self._known[uri])
        self._frames.append((rank, found))
        return found

    def settle(self, most: int) -> int:
        """Gives out at most so many bytes; returns how many pictures do not fit."""
        for _, each in sorted(self._frames, key=lambda item: item[0]):
            most = each.settle(most)
        return sum(each.is_left_off for _, each in self._frames)
