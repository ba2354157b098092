"""Runs: what many parts say, merged and cut by bucket, so that the join of a bucket opens few files and not every part.

    <folder>/run-00000.occurrences.pack   OCCURRENCES of the parts of one group, a slot (table/packs.py) a bucket
            /run-00000.images.pack        IMAGES of them

A part is read by one group, forward, each row group once. Held are one row group of each part and RANGE_ROWS rows
besides, or one bucket's when that has more. Texts are dictionaries, as captures.coded wants them: what stands in many
rows is stored once a slot.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pool import captures
from curation.pool.store import part_folder
from curation.table import packs, parquet, schemas
from curation.table.arrow import whole
from curation.table.uids import Cut
from pipeline import storage

OCCURRENCES, IMAGES = "occurrences", "images"
TABLES = {OCCURRENCES: schemas.OCCURRENCES, IMAGES: schemas.IMAGES}
PARTS = 256
"""The most parts of a group."""
RANGE_ROWS = 1 << 18
_BUSY = 16  # groups, to keep all cores busy


def groups_of(parts: Sequence[str]) -> list[list[str]]:
    """The parts dealt into groups: as few as may be, but enough to work on at a time."""
    number = max(-(-len(parts) // PARTS), min(len(parts), _BUSY))
    bounds = [len(parts) * group // number for group in range(number + 1)] if number else []
    return [list(parts[low:high]) for low, high in zip(bounds, bounds[1:], strict=False)]


def pack_name(run: int, table: str) -> str:
    return f"run-{run:05d}.{table}.pack"


def publish_run(folder: str, run: int, pool: str, parts: Sequence[str], cut: Cut) -> dict[str, storage.Note]:
    """The packs of one group; returns their notes by name."""
    notes = {}
    for table, schema in TABLES.items():
        slots = _slots([storage.join(part_folder(pool, part), f"{table}.parquet") for part in parts], schema, cut)
        name = pack_name(run, table)
        notes[name] = packs.publish_pack(storage.join(folder, name), slots, cut.buckets)
    return notes


def read_bucket(folder: str, runs: Iterable[int], table: str, bucket: int) -> list[pa.Table]:
    """What the parts of these runs say of the uids of one bucket, as captures.coded takes it."""
    urls = [storage.join(folder, pack_name(run, table)) for run in runs]
    return [rows for url in urls for rows in packs.read_pack(url, bucket, bucket + 1)]


def _slots(urls: Sequence[str], schema: pa.Schema, cut: Cut) -> Iterator[pa.Table]:
    """The rows of each bucket, in order."""
    files = [parquet.Forward(url, "uid", captures.texts_of(schema)) for url in urls]
    for first, stop in _ranges(files, cut):
        _, high = cut.range_of(first, stop)
        rows = captures.together([file.before(high) for file in files], schema)
        slot_of = cut.bucket_of(rows.column("uid")) - first
        order = np.argsort(slot_of, kind="stable")
        bounds = np.searchsorted(slot_of[order], np.arange(stop - first + 1))
        rows = rows.unify_dictionaries().combine_chunks().take(pa.array(order))
        for low, after in zip(bounds, bounds[1:], strict=False):
            yield _own_words(rows.slice(low, after - low))


def _ranges(files: Sequence[parquet.Forward], cut: Cut) -> Iterator[tuple[int, int]]:
    """Buckets [first, stop), in order, whose row groups begin with at most RANGE_ROWS rows."""
    starts = pa.array([start for file in files for start in file.starts], pa.string())
    rows = [number for file in files for number in file.rows]
    begun = np.bincount(cut.bucket_of(starts), rows, cut.buckets)
    first, held = 0, 0
    for bucket, number in enumerate(begun.astype(np.int64).tolist()):
        if bucket > first and held + number > RANGE_ROWS:
            yield first, bucket
            first, held = bucket, 0
        held += number
    yield first, cut.buckets


def _own_words(rows: pa.Table) -> pa.Table:
    """The rows with dictionaries of only those texts that stand in them."""
    for at, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type) and rows.num_rows:
            column = whole(rows.column(at))
            used = pc.dictionary_encode(column.indices)
            words = column.dictionary.take(used.dictionary)
            rows = rows.set_column(at, field, pa.DictionaryArray.from_arrays(used.indices, words))
    return rows
