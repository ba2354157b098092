"""Small pictures of the pairs that the report shows: made by tasks, a batch at a time, each image once."""

from collections.abc import Iterable
from typing import Any

from curation.job import Job
from curation.pool.store import ImagePlace, ImageReader
from pipeline.errors import ClipmillError
from pipeline.images.thumbnail import thumbnail

BATCH = 32


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
        return thumbnail(reader.read(place))
    except ClipmillError:
        return None
