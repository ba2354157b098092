"""Runs measure stages over the pairs of a bucket, computing only what no earlier job has computed.

    <pool>/columns/<stage digest>/<low>-<high>-<hash>.parquet   key | the stage's columns | reason

A key is the sha256 of an image or the hash of a text. Files are only ever added, each whole; <low>-<high> is the
range of uids whose bucket computed it, so that a job with other buckets finds it too. Removing <pool>/columns is safe.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pool.column_files import measured_columns, publish_columns
from curation.pool.store import PLACE, ImagePlace, ImageReader
from curation.stage import ImageMeasure, MeasureImages, MeasureTexts, TextMeasure, Verdicts
from curation.table import arrow, captions
from pipeline import storage

IMAGE_BATCH, TEXT_BATCH = 64, 8192
_KEEP_EVERY_S = 30.0  # a killed task loses at most this much measuring
_KEY, _REASON = "key", "reason"


class ColumnCache:
    """The measured columns of one stage that the bucket of uids [low, high) may need."""

    def __init__(self, pool: str, digest: str, low: str, high: str, fields: Sequence[pa.Field]) -> None:
        self._folder, self._low, self._high = storage.join(pool, "columns", digest), low, high
        self.schema = pa.schema([pa.field(_KEY, pa.string()), *fields, pa.field(_REASON, pa.string())])
        self._found = [self.schema.empty_table()]

    def load(self, keys: pa.Array) -> pa.Array:
        """Reads what is known of `keys`; returns those that are not."""
        for table in measured_columns(self._folder, self._low, self._high, self.schema):
            self._found.append(table.filter(pc.is_in(table.column(_KEY), keys)))
        return keys.filter(pc.invert(pc.is_in(keys, self._known())))

    def _known(self) -> pa.Array:
        return pa.concat_arrays([c for t in self._found for c in t.column(_KEY).chunks] or [pa.array([], pa.string())])

    def keep(self, rows: list[pa.Table]) -> None:
        """Publishes newly measured rows as one more file."""
        table = pa.concat_tables(rows).combine_chunks()
        publish_columns(self._folder, self._low, self._high, table)
        self._found.append(table)

    def take(self, keys: pa.Array) -> pa.Table:
        """One row per key, without the key column."""
        table = pa.concat_tables(self._found).combine_chunks()
        return table.take(pc.index_in(keys, table.column(_KEY))).drop_columns([_KEY])


def measure_images(
    pairs: pa.Table,
    stage: ImageMeasure,
    opened: Callable[[], MeasureImages],
    cache: ColumnCache,
    reader: ImageReader,
    batch: int | None,
) -> Verdicts:
    """The stage's columns, and the reason (null keeps) of each pair."""
    keys = arrow.whole(pairs.column("image_sha256"))
    unknown = cache.load(pc.unique(keys))
    todo = pairs.select(PLACE).filter(pc.is_in(pairs.column("image_sha256"), unknown))
    todo = todo.sort_by([(name, "ascending") for name in PLACE])  # reads go forward through each tar
    place_of: dict[str, ImagePlace] = {}
    for place in map(ImagePlace._make, zip(*(column.to_pylist() for column in todo.columns), strict=True)):
        place_of.setdefault(place.sha256, place)

    def measured() -> Iterator[pa.Table]:
        function = opened()
        for some in _batches(list(place_of.values()), batch or IMAGE_BATCH):
            bodies = [reader.read(place) for place in some]
            yield _keyed(cache.schema, [place.sha256 for place in some], function(bodies), stage.kind)

    _keep_all(cache, measured() if place_of else ())
    columns = cache.take(keys)
    return Verdicts(reason=arrow.whole(columns.column(_REASON)), columns=columns.drop_columns([_REASON]))


def measure_texts(
    pairs: pa.Table, stage: TextMeasure, opened: Callable[[], MeasureTexts], cache: ColumnCache, batch: int | None
) -> Verdicts:
    """The captions with the stage's fields; no pair is dropped."""
    encoded = pc.dictionary_encode(arrow.whole(captions.explode(pairs).column("text")))
    words = encoded.dictionary.to_pylist()
    hashes = pa.array([hashlib.blake2b(word.encode(), digest_size=16).hexdigest() for word in words], pa.string())
    unknown = cache.load(hashes)
    todo = np.flatnonzero(pc.is_in(hashes, unknown).to_numpy(zero_copy_only=False)).tolist() if len(unknown) else []

    def measured() -> Iterator[pa.Table]:
        function = opened()
        for some in _batches(todo, batch or TEXT_BATCH):
            keys = hashes.take(pa.array(some)).to_pylist()
            yield _keyed(cache.schema, keys, function([words[i] for i in some]), stage.kind)

    _keep_all(cache, measured() if todo else ())
    columns = cache.take(hashes.take(encoded.indices)).drop_columns([_REASON])
    fielded = captions.with_fields(pairs, columns).column("captions")
    return Verdicts(reason=pa.nulls(pairs.num_rows, pa.string()), captions=fielded)


def _keep_all(cache: ColumnCache, measured: Iterator[pa.Table] | tuple) -> None:
    waiting: list[pa.Table] = []
    since = time.monotonic()
    for table in measured:
        waiting.append(table)
        if time.monotonic() - since > _KEEP_EVERY_S:
            cache.keep(waiting)
            waiting, since = [], time.monotonic()
    if waiting:
        cache.keep(waiting)


def _keyed(schema: pa.Schema, keys: list[str], table: pa.Table, kind: str) -> pa.Table:
    """Checks what a stage measured against what it promised."""
    if table.num_rows != len(keys):
        raise ValueError(f"{kind} measured {table.num_rows} rows for {len(keys)} inputs")
    columns = []
    for f in schema:
        if f.name == _KEY:
            columns.append(pa.array(keys, pa.string()))
        elif f.name in table.schema.names:
            columns.append(table.column(f.name).cast(f.type))
        elif f.name == _REASON:
            columns.append(pa.nulls(len(keys), pa.string()))
        else:
            raise ValueError(f"{kind} measured no column {f.name!r}; found {', '.join(table.schema.names)}")
    return pa.table(columns, schema=schema)


def _batches(rows: list, size: int) -> Iterator[list]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
