"""Small pictures of the pairs that the report shows: made by tasks, a batch at a time, each image once."""

from collections.abc import Iterable
from typing import Any

from curation.books.examples import CHARACTERS
from curation.job import Job, check_files
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


def rows_against(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a stage's evidence beside which something is to be seen."""
    return [row for group in told["picks"].values() for row in group["rows"] if row.get("against")]


def against(job: Job, number: int, names: list[str]) -> dict[str, dict[str, Any]]:
    """Name -> what a stage held pairs against that are no pairs: {"url": the name, "caption", "thumb"}."""
    check_files(job, [number])
    try:
        found = job.stage(number).held_against(names)
    except ClipmillError:  # a report is no reason to fail at the end of a run
        return {}
    return {
        name: {
            "url": name[:CHARACTERS],
            "caption": each.caption[:CHARACTERS],
            "thumb": each.image and thumbnail(each.image),
        }
        for name, each in found.items()
    }


def _thumbnail(reader: ImageReader, place: ImagePlace) -> str | None:
    try:
        return thumbnail(reader.read(place))
    except ClipmillError:
        return None
