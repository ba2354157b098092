"""What an image is written as: the bytes of the crawl untouched, or re-encoded by a fixed rule."""

import io
from typing import ClassVar, Literal

import pyarrow as pa
from PIL import Image
from pydantic import Field

from curation.pixels import PILLOW_MAX_PIXELS, PILLOW_NAMES, Refused, decode
from curation.settings import EmitSettings
from curation.stage import ImageMeasure, MeasureImages
from pipeline.contract.pairs import EXTS

_MAX_SIDE = 1 << 16


def needs_conversion(ext: str, settings: EmitSettings) -> bool:
    return settings.resize is not None or ext not in EXTS


def convert(body: bytes, settings: EmitSettings) -> tuple[bytes, str, int, int]:
    """(bytes, ext, width, height): JPEG when the recipe resizes, else PNG; first frame, upright, on white.

    Raises Refused (curation/pixels.py) when it cannot be decoded.
    """
    image, _ = decode(body, tuple(PILLOW_NAMES), PILLOW_MAX_PIXELS, _MAX_SIDE)
    out = io.BytesIO()
    if settings.resize is None:
        image.save(out, "PNG", compress_level=6)
        return out.getvalue(), "png", *image.size
    scale = settings.resize.max_side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.save(out, "JPEG", quality=settings.resize.quality)
    return out.getvalue(), "jpg", *image.size


class EmitProbe(ImageMeasure):
    """What the contract must know of an image and no stage of the recipe has measured: does it decode, its size."""

    kind: Literal["emit"] = "emit"
    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("width", pa.int32()), pa.field("height", pa.int32()))
    max_pixels: int = Field(PILLOW_MAX_PIXELS, ge=1, le=PILLOW_MAX_PIXELS)

    def open(self) -> MeasureImages:
        schema = pa.schema([*self.adds, pa.field("reason", pa.string())])

        def row(body: bytes) -> dict[str, object]:
            try:
                image, _ = decode(body, tuple(PILLOW_NAMES), self.max_pixels, _MAX_SIDE)
            except Refused as refused:
                return {"reason": refused.reason}
            return {"width": image.width, "height": image.height}

        return lambda bodies: pa.Table.from_pylist([row(body) for body in bodies], schema=schema)
