"""Decodes every image once and writes down all that later stages want to know of its pixels."""

from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from curation.images.pixels import TINY_SIDE, measure_picture
from curation.stage import Context, Function, Measure
from pipeline.images.decoder import FORMATS, LARGEST_SIDE, MAX_PIXELS, MAX_SIDE, PILLOW_MAX_PIXELS, Refused, decode

Format = Literal["jpg", "png", "webp", "gif", "bmp", "tiff"]

_COLUMNS = (
    pa.field("width", pa.int32()),  # as displayed, after EXIF orientation
    pa.field("height", pa.int32()),
    pa.field("format", pa.string()),
    pa.field("pixels", pa.string()),  # 32 hex of blake2b over size and displayed RGB: equal pixels, equal text
    pa.field("phash", pa.uint64()),  # see curation/images/phash.py
    pa.field("contrast", pa.float32()),  # standard deviation of the 32 x 32 grey square, in grey levels
    pa.field("tiny_rgb", pa.binary(3 * TINY_SIDE**2)),  # 8 x 8 mean colours, row by row
)


class ImageDecode(Measure):
    """Drops what cannot be decoded within the caps, and pictures of one colour.

    Reasons: svg, format, side_cap, pixel_cap, scan_cap, metadata_cap, truncated, not_decodable, blank. Only the header
    is read before the caps are checked. `blank_range` is the greatest difference of levels that still counts as one
    colour (transparency on white); -1 keeps such pictures.
    """

    kind: Literal["image_decode"] = "image_decode"
    unit: ClassVar = "image"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    adds: ClassVar[tuple[pa.Field, ...]] = _COLUMNS
    batch: ClassVar[int] = 64
    version: ClassVar[int] = 2  # 2: transparency of grey and palette pictures with fewer than 8 bits, turned TIFFs

    formats: tuple[Format, ...] = Field(FORMATS, min_length=1)  # type: ignore[arg-type]
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=PILLOW_MAX_PIXELS)
    max_side: int = Field(MAX_SIDE, ge=1, le=LARGEST_SIDE)
    blank_range: int = Field(8, ge=-1, le=255)

    def open(self, ctx: Context) -> Function:
        schema = pa.schema([*_COLUMNS, pa.field("reason", pa.string())])

        def measure(images: pa.Table) -> pa.Table:
            rows = [self._row(body.as_py()) for body in images.column("image")]
            return pa.Table.from_pylist(rows, schema=schema)

        return measure

    def _row(self, body: bytes) -> dict[str, object]:
        try:
            image, ext = decode(body, self.formats, self.max_pixels, self.max_side)
        except Refused as refused:
            return {"reason": refused.reason}
        row = measure_picture(image) | {"format": ext}
        ranges: Any = image.getextrema()  # (low, high) of each channel
        if max(high - low for low, high in ranges) <= self.blank_range:
            row["reason"] = "blank"
        return row
