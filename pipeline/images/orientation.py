"""Orientation of a picture: which of EXIF's eight ways it is to be turned, from its EXIF block or its XMP.

Pillow reads every value of an EXIF block to find the one, and writes the block anew after turning: 18 s for a block of
19 MB. Only the entries of the first directory are looked at here, each of twelve bytes.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import Image

Box = tuple[float, float, float, float]
"""left, top, right, bottom, in pixels."""

_TAG = 0x0112
_WHOLE_NUMBERS = {3: "H", 4: "L", 8: "h", 9: "l"}  # EXIF's types of integers: short, long, and both signed
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
# The EXIF orientation -> what makes it upright (CIPA DC-008, 4.6.5)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(info: Mapping[Any, Any]) -> int:
    """1 to 8, from the metadata that Pillow leaves in `Image.info`; 1 when absent or unreadable."""
    number = _of_exif(_exif_block(info))
    if number is None:
        number = _of_xmp(info.get("XML:com.adobe.xmp") or info.get("xmp"))
    return number if number in _TURNS else 1


def upright(image: Image.Image, number: int) -> Image.Image:
    """The picture as a person sees it; the image itself when it already is."""
    return image.transpose(_TURNS[number]) if number in _TURNS else image


def upright_box(inside: tuple[float, float], size: tuple[int, int], number: int) -> Box:
    """Where in the upright picture that lies which filled `inside` (width, height) of one of `size`, from its left and
    top, before it was turned."""
    (width, height), (right, bottom) = inside, size
    if number >= 5:
        (width, height), (right, bottom) = (height, width), (bottom, right)
    left = right - width if number in (2, 3, 6, 7) else 0.0
    top = bottom - height if number in (3, 4, 7, 8) else 0.0
    return left, top, left + width, top + height


def _exif_block(info: Mapping[Any, Any]) -> bytes:
    block = info.get("exif", b"")
    if not block and isinstance(text := info.get("Raw profile type exif"), str):  # as ImageMagick keeps it in a PNG
        try:
            block = bytes.fromhex("".join(text.split("\n")[3:]))
        except ValueError:
            return b""
    return block if isinstance(block, bytes) else b""


def _of_exif(block: bytes) -> int | None:
    """The number as it stands there; None when there is none."""
    for _ in range(2):  # some writers say it twice
        block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}L", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for n in range(count):
            tag, kind, values = struct.unpack_from(f"{order}HHL", block, start + 2 + 12 * n)
            if tag == _TAG and values == 1 and kind in _WHOLE_NUMBERS:
                return int(struct.unpack_from(order + _WHOLE_NUMBERS[kind], block, start + 10 + 12 * n)[0])
    except struct.error:  # cut short: a broken block says nothing about the pixels
        pass
    return None


def _of_xmp(packet: object) -> int | None:
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    match = _XMP.search(packet) if isinstance(packet, bytes) else None
    return int(match[1]) if match else None
