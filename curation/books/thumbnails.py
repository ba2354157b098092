"""Small pictures of the pairs that the report shows: made by tasks, a batch at a time, each image once."""

import base64
import io
from collections.abc import Iterable
from typing import Any

from PIL import Image

from curation.job import Job
from curation.pool.store import ImagePlace, ImageReader
from pipeline.errors import ClipmillError
from pipeline.images.decoder import FORMATS, PILLOW_MAX_PIXELS, Refused, decode

SIDE, QUALITY, BATCH = 128, 78, 32


def batches(rows: Iterable[dict[str, Any]]) -> list[list[ImagePlace]]:
    """The images of `rows` in the order of the pool, each once."""
    places = {place.sha256: place for row in rows if row.get("image_part") for place in [ImagePlace.of(row)]}
    wanted = sorted(places.values())
    return [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]


def thumbnails(job: Job, places: list[ImagePlace]) -> dict[str, str | None]:
    """sha256 -> a data URI (a small JPEG); None for what does not decode."""
    reader = ImageReader(job.pool)
    return {place.sha256: _thumbnail(reader, place) for place in places}


def _thumbnail(reader: ImageReader, place: ImagePlace) -> str | None:
    try:
        image, _ = decode(reader.read(place), FORMATS, PILLOW_MAX_PIXELS // 4, 1 << 14)
    except (Refused, ClipmillError):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
