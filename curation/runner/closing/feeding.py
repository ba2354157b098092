"""What a measuring process has loaded, and what it is given: rows with the images that they stand for."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from curation.methods.units import KEY
from curation.pool.store import PLACE, ImagePlace, ImageReader
from curation.stage import IMAGE, Context, Measure

_opened: dict[str, Callable[..., Any]] = {}  # what this worker process has loaded, by digest


def inputs_of(stage: Measure, rows: pa.Table, reader: ImageReader) -> pa.Table:
    if IMAGE not in stage.reads:
        return rows.drop_columns([KEY])
    places = zip(*(rows.column(name).to_pylist() for name in PLACE), strict=True)
    bodies = pa.array(list(reader.read_all(ImagePlace(*place) for place in places)), pa.large_binary())
    unread = [KEY, *(name for name in PLACE if name not in stage.reads)]
    return rows.drop_columns(unread).add_column(0, IMAGE, bodies)


def opened(stage: Measure, ctx: Context) -> Callable[[pa.Table], Any]:
    """What the stage loads, once in this process."""
    return opened_as(f"{stage.kind}-{stage.digest()}", lambda: stage.open(ctx))


def opened_as(key: str, load: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    if key not in _opened:
        _opened[key] = load()
    return _opened[key]
