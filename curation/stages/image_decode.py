"""Decodes every image once and writes down all that later stages want to know of its pixels."""

from typing import Any, ClassVar, Literal

import pyarrow as pa
from PIL import Image
from pydantic import Field

from curation.images.phash import SIDE
from curation.images.pixels import TINY_SIDE, Look, measured, seen
from curation.stage import Context, Function, Measure
from curation.table.stored import IMAGE_STORED, Stored
from pipeline.images.background import FLAT, is_flat
from pipeline.images.decoder import (
    FORMATS,
    LARGEST_SIDE,
    MAX_PIXELS,
    MAX_SIDE,
    PILLOW_MAX_PIXELS,
    Picture,
    Refused,
    size_cap,
)

Format = Literal["jpg", "png", "webp", "gif", "bmp", "tiff"]

_COLUMNS = (
    pa.field("width", pa.int32()),  # as displayed, after EXIF orientation
    pa.field("height", pa.int32()),
    pa.field("format", pa.string()),
    pa.field("animated", pa.bool_()),  # of which only the first frame is ever looked at
    pa.field("transparency", pa.float32()),  # share of the background that shows through
    pa.field("pixels", pa.string()),  # 32 hex over size and displayed RGB as decoded: of a large JPEG, see below
    pa.field("phash", pa.uint64()),  # see curation/images/phash.py
    pa.field("contrast", pa.float32()),  # standard deviation of the 32 x 32 grey square, in grey levels
    pa.field("grey", pa.binary(SIDE**2)),  # that square, row by row
    pa.field("tiny_rgb", pa.binary(3 * TINY_SIDE**2)),  # 8 x 8 mean colours, row by row
    pa.field("colour_entropy", pa.float32()),  # bits, 0 to 10, of 32 x 32 mean colours
    pa.field("flatness", pa.float32()),  # share of their neighbours that are of one colour
)
_ROUNDING = 8  # levels: far more than libjpeg's two ways to the same mean are apart


class ImageDecode(Measure):
    """Drops what cannot be decoded within the caps, and pictures of one colour.

    Reasons: svg, format, side_cap, pixel_cap, scan_cap, metadata_cap, truncated, not_decodable, blank, animated. Only
    the header is read before the caps are checked. Transparency is seen on white, or on black what could not be seen
    on white, as training sees it.

    A JPEG whose shorter side has 192 pixels or more is decoded by the half, quarter or eighth that leaves 96: all its
    data is read, and damage found as by a whole decoding, at less than half the cost. Its `pixels` are then those means
    of 2 x 2 to 8 x 8 pixels: equal for the same picture with other metadata, or coded anew without loss; a PNG made
    from it is a near copy. Whether it is of one colour is judged on all pixels.
    """

    kind: Literal["image_decode"] = "image_decode"
    unit: ClassVar = "image"
    reads: ClassVar[tuple[str, ...]] = ("image", IMAGE_STORED)
    adds: ClassVar[tuple[pa.Field, ...]] = _COLUMNS
    batch: ClassVar[int] = 64
    version: ClassVar[int] = 8  # 8: JPEGs that lack blocks; 7: PNGs that lack rows; 6: tiny_rgb

    formats: tuple[Format, ...] = Field(FORMATS, min_length=1)  # type: ignore[arg-type]
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=PILLOW_MAX_PIXELS)
    max_side: int = Field(MAX_SIDE, ge=1, le=LARGEST_SIDE)
    blank_range: int = Field(
        FLAT, ge=-1, le=255, description="greatest difference of levels that still counts as one colour; -1 keeps such"
    )
    drop_animated: bool = Field(False, description="pictures with frames after the first, of which no other is seen")

    def open(self, ctx: Context) -> Function:
        schema = pa.schema([*_COLUMNS, pa.field("reason", pa.string())])

        def measure(images: pa.Table) -> pa.Table:
            rows: list[dict[str, Any]] = []
            looks: dict[int, Look] = {}  # by row: a batch is measured at once
            originals = [Stored.of(text) for text in images.column(IMAGE_STORED).to_pylist()]
            for number, (body, original) in enumerate(zip(images.column("image"), originals, strict=True)):
                found, row = self._decoded(body.as_py())
                if reason := original and self._refused(original):
                    found, row = None, {"reason": reason}
                rows.append(row)
                if found is not None:
                    looks[number] = found
            for name, values in measured(list(looks.values())).items():
                for number, value in zip(looks, values, strict=True):
                    rows[number][name] = value
            for number in looks:
                if original := originals[number]:
                    rows[number] |= {"format": original.source_ext, "width": original.width, "height": original.height}
            return pa.Table.from_pylist(rows, schema=schema)

        return measure

    def _decoded(self, body: bytes) -> tuple[Look | None, dict[str, Any]]:
        """How the picture looks, None without one, and what its container says."""
        try:
            picture = Picture(body, self.formats, self.max_pixels, self.max_side)
            image, found = seen(picture)
            said = {"format": picture.ext, "animated": picture.is_animated, "transparency": picture.clear_share()}
            if self._is_blank(image, (found.width, found.height), body):
                said["reason"] = "blank"
        except Refused as refused:
            return None, {"reason": refused.reason}
        if self.drop_animated and picture.is_animated:
            said.setdefault("reason", "animated")
        return found, said

    def _refused(self, original: Stored) -> str:
        """The reason to refuse what was shrunk, by the format and the caps, which speak of the original; or ""."""
        if original.source_ext not in self.formats:
            return "format"
        return size_cap(original.width, original.height, self.max_pixels, self.max_side)

    def _is_blank(self, image: Image.Image, size: tuple[int, int], body: bytes) -> bool:
        """Judged on all pixels. Means of blocks lie between the levels of their pixels, so that a picture whose means
        are not of one colour is not; of the few others, a thin line that no mean shows may be there."""
        if image.size == size:
            return is_flat(image, self.blank_range)
        if not is_flat(image, self.blank_range + _ROUNDING):
            return False
        return is_flat(Picture(body, self.formats, self.max_pixels, self.max_side).rgb(), self.blank_range)
