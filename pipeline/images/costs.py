"""Costs of a body: what no honest file asks of a decoder, counted from the bytes before a decoder sees them.

Caps on sizes bound no time. The worst forged files of 20 MB and 64 megapixels at most, without and with these limits
(an honest photo of that size: 0.6 s):

    JPEG  EXIF in a million segments        minutes -> refused      100 scans in 1.5 kB, arithmetic       8 s -> 2 s
          empty segments, fill bytes           10 s -> refused
    PNG   profiles and texts that swell   over 60 s -> 0.6 s        empty chunks before the picture       4 s -> 0.3 s
    TIFF  strips over each other          over 60 s -> refused      millions of numbers in a tag         10 s -> 0.7 s
    GIF   pieces of a comment         2.4 s, 435 MB -> refused      BMP  run-length codes                 7 s -> 2 s
"""

import re
import struct
from typing import Any

import numpy as np

MAX_SCANS = 100  # of a JPEG: encoders write about ten; 6,000 empty ones make 1.7 MB cost 25 s
MAX_SCANNED_PIXELS = 1_600_000_000  # over all scans of a JPEG, each of which costs a pass over the picture
MAX_RLE_PIXELS = 4_000_000  # of a run-length BMP, which is decoded in Python: up to half a second a megapixel
MAX_TILES = 65_536  # of a TIFF: strips or tiles
_MAX_SEGMENTS = 2_000  # of a JPEG before its first scan; an ICC profile is cut into at most 255
_MAX_EXIF_SEGMENTS = 16  # put together one by one: quadratic
_MAX_FILL = 1 << 16  # bytes between the segments of a JPEG
_MAX_CHUNKS = 100_000  # of a PNG: 2,500 in 20 MB as encoders cut it
_MAX_SWELLING = 256  # compressed profiles and texts of a PNG, each up to 1 MiB when inflated
_MAX_BLOCKS = 100_000  # of a GIF before its first frame
_MAX_ENTRIES = 4_096  # of a TIFF directory, of which honest ones have about twenty
_MAX_NUMBERS = 300_000  # of a TIFF directory, each of which becomes an object in memory

_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # behind entropy-coded data: not a stuffed byte, not a restart
_BARE = frozenset([0x00, 0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)])  # markers read without a length
# Frame headers of progressive and arithmetic-coded JPEG, which no TIFF writer puts into a TIFF.
_SLOW_FRAME = re.compile(rb"\xff[\xc2\xc5-\xc7\xc9-\xcb\xcd-\xcf]\0[\x0b\x11\x14]\x08")
_SOS, _EOI = 0xDA, 0xD9
_SWELLING = (b"iCCP", b"zTXt", b"iTXt")
_EXIF_DIRECTORIES = (34665, 34853, 40965)
# Bytes of a value by TIFF's types, and those that are kept as bytes rather than numbers.
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_BYTES = (1, 2, 7)
_POINTERS = {3: "H", 4: "L", 8: "h", 9: "l", 13: "L", 16: "Q"}
_MAX_PLANES = 8  # Pillow reads six at most
_BEYOND = 1 << 62


def reading_cost(body: bytes, ext: str) -> str:
    """The reason not to let a decoder read the header of `body`; "" when it may."""
    over = {"jpg": _jpeg_header, "png": _png_chunks, "gif": _gif_blocks, "tiff": _tiff_directories}.get(ext)
    return "metadata_cap" if over is not None and over(body) else ""


def decoding_cost(body: bytes, ext: str, image: Any, scans: int, max_pixels: int) -> str:
    """The reason not to let a decoder make the pixels of `image` (a Pillow image not loaded yet); "" when it may."""
    pixels = image.width * image.height
    if ext == "jpg" and scans > min(MAX_SCANS, MAX_SCANNED_PIXELS // pixels):
        return "scan_cap"
    if ext == "bmp" and int.from_bytes(body[14:18], "little") >= 40 and body[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        if pixels > MAX_RLE_PIXELS:
            return "pixel_cap"
        return "metadata_cap" if len(body) > 3 * pixels + (1 << 16) else ""  # codes that draw nothing
    if ext == "tiff" and _tiff_pixels(image) > max_pixels:
        return "pixel_cap"
    if ext == "tiff" and "jpeg" in image.info.get("compression", "") and _SLOW_FRAME.search(body):
        return "scan_cap"
    return ""


def scans(body: bytes) -> int:
    """Scans of a JPEG up to its end mark; stops above the cap."""
    levels = np.frombuffer(body, np.uint8)
    if np.count_nonzero((levels[:-1] == 0xFF) & (levels[1:] == _SOS)) <= 1:  # most files, at half the cost
        return 1
    at, count = 2, 0
    while match := _MARKER.search(body, at):
        kind, at = match[1][0], match.end()
        if kind == _EOI:
            break
        count += kind == _SOS
        if count > MAX_SCANS:
            break
        if kind not in _BARE:
            at += max(2, int.from_bytes(body[at : at + 2], "big"))
    return count


def _jpeg_header(body: bytes) -> bool:
    """Too many segments before the first scan, or too many bytes that belong to none."""
    at, fill, exif = 2, 0, 0
    for _ in range(_MAX_SEGMENTS):
        start, at = at, body.find(b"\xff", at)
        if at < 0:
            return fill + len(body) - start > _MAX_FILL
        while body[at + 1 : at + 2] == b"\xff" and at - start <= _MAX_FILL:
            at += 1
        fill += at - start
        if fill > _MAX_FILL:
            return True
        kind = body[at + 1 : at + 2]
        if kind in (b"", b"\xda"):  # cut short, or the first scan
            return False
        at += 2
        exif += kind == b"\xe1" and body[at + 2 : at + 8] == b"Exif\0\0"
        if exif > _MAX_EXIF_SEGMENTS:
            return True
        if kind[0] not in _BARE:
            at += max(2, int.from_bytes(body[at : at + 2], "big"))
    return True


def _png_chunks(body: bytes) -> bool:
    """Too many chunks, or too many of the compressed ones."""
    at, swelling = 8, 0
    for _ in range(_MAX_CHUNKS):
        kind = body[at + 4 : at + 8]
        if len(kind) < 4 or kind == b"IEND":
            return False
        swelling += kind in _SWELLING
        if swelling > _MAX_SWELLING:
            return True
        at += 12 + int.from_bytes(body[at : at + 4], "big")
    return True


def _gif_blocks(body: bytes) -> bool:
    """Too many blocks before the first frame: extensions, their pieces, or bytes that are neither."""
    at, inside = 13, False
    if len(body) > 10 and body[10] & 128:
        at += 3 << (body[10] & 7) + 1  # the table of colours
    for _ in range(_MAX_BLOCKS):
        if at >= len(body) or not inside and body[at] in b",;":
            return False
        if inside:
            inside = body[at] > 0
            at += 1 + body[at]
        else:
            inside = body[at] == ord("!")
            at += 2 if inside else 1
    return True


def _tiff_directories(body: bytes) -> bool:
    """Too many entries or numbers in the directories that Pillow reads: the first frame's, and those of its EXIF."""
    order, size = ("<" if body[:2] == b"II" else ">"), len(body)
    big = 43 in body[2:4]
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "L"), body, 8 if big else 4)
        first = _directory(body, start, order, big)
        numbers = _numbers(first, size)
        for tag, kind, _, field in first:
            if tag in _EXIF_DIRECTORIES:
                start = struct.unpack_from(order + _POINTERS.get(kind, "L"), field)[0]
                numbers += _numbers(_directory(body, start, order, big), size)
    except struct.error:
        return False  # cut short: for the decoder to say
    except OverflowError:
        return True
    return numbers > _MAX_NUMBERS


def _directory(body: bytes, start: int, order: str, big: bool) -> list[tuple[int, int, int, bytes]]:
    """(tag, type, values, field of the value or its place) of its entries; OverflowError when there are too many."""
    head, form = (order + "Q", order + "HHQ8s") if big else (order + "H", order + "HHL4s")
    width = struct.calcsize(form)
    (count,) = struct.unpack_from(head, body, start)
    start += struct.calcsize(head)
    count = min(count, (len(body) - start) // width)
    if count > _MAX_ENTRIES:
        raise OverflowError
    return [struct.unpack_from(form, body, start + n * width) for n in range(count)]


def _numbers(entries: list[tuple[int, int, int, bytes]], size: int) -> int:
    """Values that become numbers; those said to be more than the file holds are not read."""
    return sum(
        values
        for _, kind, values, _ in entries
        if kind in _WIDTHS and kind not in _BYTES and values * _WIDTHS[kind] <= size
    )


def _tiff_pixels(image: Any) -> int:
    """Pixels that the strips or tiles cover in a plane; beyond every cap when they are too many or over each other."""
    across, down = int(image.tag_v2[256]), int(image.tag_v2[257])
    covered = across * down
    wide, high = image.tag_v2.get(322), image.tag_v2.get(323)
    if isinstance(wide, int) and isinstance(high, int) and wide > 0 and high > 0:
        tiles = -(-across // wide) * -(-down // high)
        if tiles > MAX_TILES:
            return _BEYOND
        covered = tiles * wide * high
    boxes = [tile[1] for tile in image.tile]
    drawn = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    return _BEYOND if len(boxes) > MAX_TILES or drawn > _MAX_PLANES * across * down else covered
