"""From hostile bytes to the picture a person would see: the one decoder of curation, training and evaluation.

    picture = Picture(body)                        # the header is read and within the caps; no pixel is decoded
    image = picture.rgb()                          # first frame, upright, opaque, 8-bit RGB
    image, box = picture.reduced(spare)            # a JPEG decoded smaller, and where in it the picture lies

Decoders are where crawled bytes hurt: heap overflows, decompression bombs, files that include other files. So only the
formats asked for are opened (no plugin scan), sizes and what else costs time are counted before a pixel is decoded
(costs.py), only the first frame is looked at, truncated files are refused and SVG is never rendered.
"""

import functools
import io
import logging
import math
import warnings

from PIL import Image

from pipeline.images.background import BACKGROUNDS, clear_share, opaque
from pipeline.images.costs import decoding_cost, reading_cost, scans
from pipeline.images.formats import image_format
from pipeline.images.frames import is_animated
from pipeline.images.jpeg_blocks import lacks_blocks
from pipeline.images.orientation import Box, orientation, upright, upright_box
from pipeline.images.png_rows import lacks_rows
from pipeline.images.turbo import decoded

PILLOW_NAMES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF"}
FORMATS = tuple(PILLOW_NAMES)
# What a recipe may ask for at most: beyond it, Pillow would refuse by itself.
PILLOW_MAX_PIXELS = 89_478_485
LARGEST_SIDE = 1 << 16
# What is decoded unless a recipe says otherwise, in curation as in training.
MAX_PIXELS = 64_000_000
MAX_SIDE = 20_000


class Refused(Exception):
    """Carries the reason a picture is not to be had; a reason is counted, the exception never leaves its caller."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Picture:
    """An image whose header was read and found within the caps. ext: one of FORMATS.

    Raises Refused with one of: svg, format, side_cap, pixel_cap, scan_cap, metadata_cap, truncated, not_decodable.
    """

    def __init__(
        self,
        body: bytes,
        formats: tuple[str, ...] = FORMATS,
        max_pixels: int = MAX_PIXELS,
        max_side: int = MAX_SIDE,
    ) -> None:
        _silence_pillow()
        self._body, self.ext = body, image_format(body)
        if self.ext not in formats:
            raise Refused("svg" if self.ext == "svg" else "format" if self.ext else "not_decodable")
        if reason := reading_cost(body, self.ext):
            raise Refused(reason)
        try:
            self._image = self._opened(body)
        except Image.DecompressionBombError:
            raise Refused("pixel_cap") from None
        except Exception as error:  # Pillow's parsers raise anything from SyntaxError to struct.error
            raise Refused(_reason(body, self.ext, str(error))) from None
        self._whole = self._image.size  # a JPEG's does not change by its being decoded smaller
        if reason := size_cap(*self._whole, max_pixels, max_side):
            raise Refused(reason)
        self._scans = scans(body) if self.ext == "jpg" else 1
        self._wanted: tuple[int, int] | None = None  # size of which a JPEG is decoded at least
        if reason := decoding_cost(body, self.ext, self._image, self._scans, max_pixels):
            raise Refused(reason)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as displayed. Decodes a PNG, whose orientation may stand behind its pixels."""
        if self.ext == "png":
            self._load()
        width, height = self._whole if self.ext == "jpg" else self._image.size
        return (height, width) if self._orientation() >= 5 else (width, height)

    def rgb(self, background: str = "white", spare: float = 1.0) -> Image.Image:
        """The first frame, upright, 8-bit RGB, transparency on `background`.

        `spare`: how many times fewer pixels a side would do; a JPEG is then decoded smaller, by 2, 4 or 8: libjpeg
        makes the means of blocks of pixels from their frequencies. All its data is read all the same, and damage found.
        """
        if self.ext == "jpg" and spare >= 2:
            width, height = self._whole
            self._wanted = max(1, int(width / spare)), max(1, int(height / spare))
            self._image.draft(None, self._wanted)
        self._load()
        try:
            return upright(opaque(self._image, BACKGROUNDS[background], self._depth), self._orientation())
        except Exception as error:
            raise Refused(_reason(self._body, self.ext, str(error))) from None

    def reduced(self, spare: float, background: str = "white") -> tuple[Image.Image, Box]:
        """As `rgb`, and the box in it that is the picture: the last block of pixels of a side may stick out of it."""
        image = self.rgb(background, spare)
        if self.ext != "jpg":
            return image, (0.0, 0.0, float(image.width), float(image.height))
        times = 1 << round(math.log2(max(self._whole) / max(self._image.size)))
        inside = self._whole[0] / times, self._whole[1] / times
        return image, upright_box(inside, self._image.size, self._orientation())

    def clear_share(self) -> float:
        """How much of it the background shows through: 0 opaque, 1 nothing but background. Once it was decoded."""
        return clear_share(self._image, self._depth)

    @property
    def is_animated(self) -> bool:
        """Whether it has frames after the first, which are never looked at."""
        return is_animated(self._body, self.ext)

    @property
    def _depth(self) -> int:
        """Bits of a sample."""
        return self._body[24] if self.ext == "png" else 8

    def _load(self) -> None:
        if self.ext == "jpg" and (image := decoded(self._image, self._body, self._scans)):
            self._image = image  # of which libjpeg has not even warned
            return
        try:
            self._image.load()
        except Image.DecompressionBombError:
            raise Refused("pixel_cap") from None
        except Exception as error:  # decoders raise what they like: OSError, SyntaxError, struct.error, ValueError, ...
            raise Refused(_reason(self._body, self.ext, str(error))) from None
        if self.ext == "png" and lacks_rows(self._body, self._image):
            raise Refused("truncated")
        if self.ext == "jpg" and lacks_blocks(self._body, self._image, self._decoded):
            raise Refused("truncated")

    def _opened(self, body: bytes) -> Image.Image:
        return Image.open(io.BytesIO(body), formats=(PILLOW_NAMES[self.ext],))

    def _decoded(self, body: bytes) -> Image.Image:
        """Another body as this one was, by Pillow."""
        image = self._opened(body)
        if self._wanted is not None:
            image.draft(None, self._wanted)
        image.load()
        return image

    def _orientation(self) -> int:
        """EXIF orientation 1 to 8. A TIFF is turned by Pillow itself, its size included."""
        return 1 if self.ext == "tiff" else orientation(self._image.info)


def decode(
    body: bytes, formats: tuple[str, ...] = FORMATS, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE
) -> tuple[Image.Image, str]:
    """The displayed picture on white, and its format. Raises Refused as `Picture`."""
    picture = Picture(body, formats, max_pixels, max_side)
    return picture.rgb(), picture.ext


def size_cap(width: int, height: int, max_pixels: int, max_side: int) -> str:
    """The reason to refuse a picture of so many pixels; "" for none."""
    if width < 1 or height < 1:
        return "not_decodable"
    if max(width, height) > max_side:
        return "side_cap"
    return "pixel_cap" if width * height > max_pixels else ""


@functools.cache
def _silence_pillow() -> None:
    """Pillow warns of sizes that the caps refuse anyway, and of odd metadata. Once a process: filters are global."""
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)


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
