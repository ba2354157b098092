"""Measured columns, each named by what was measured: kept once for all buckets and recipes of a pool.

    <pool>/columns/<stage digest>/<slots>-<hash of the file>.pack   key | the stage's columns | reason, cut by key

A key is a hash of the inputs' values (methods/units.py). A file is cut into ranges of keys, so that a task reads of
each what lies in its own range. Files are only ever added, each whole, and merged when they are many; a key may stand
in several, with the same row. A damaged file is removed and what it held is measured again. Removing <pool>/columns is
safe.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.methods.units import GRADE, KEY
from curation.table import packs
from curation.table.arrow import whole
from pipeline import storage
from pipeline.errors import DataError, StorageError
from pipeline.log import get_logger

log = get_logger("curation")
_NAME = re.compile(r"(\d+)-[0-9a-f]{16}\.pack")
COLUMNS = "columns"
MOST_FILES = 256
"""More files than these are merged, so many at a time."""


class Columns:
    """The rows of one stage; of several of a key that of the highest grade, where rows have one. `slots`: a power of
    two, how many ranges of keys a job works with."""

    def __init__(self, pool: str, digest: str, schema: pa.Schema, slots: int) -> None:
        self.folder, self.schema, self.slots = storage.join(pool, COLUMNS, digest), schema, slots

    def files(self) -> list[str]:
        return [name for name in storage.list_names(self.folder) if _NAME.fullmatch(name)]

    def publish(self, rows: pa.Table) -> str:
        """One more file; returns its name, which is of its content."""
        rows = rows.sort_by(KEY)
        at = key_slots(rows.column(KEY), self.slots)
        named = pa.BufferOutputStream()
        with pa.ipc.new_stream(named, rows.schema) as stream:
            stream.write_table(rows.combine_chunks())
        name = f"{self.slots}-{packs.hash_of(named.getvalue()):016x}.pack"
        packs.publish_cut(storage.join(self.folder, name), rows, at, self.slots)
        return name

    def read(self, first: int, stop: int, names: Sequence[str] | None = None) -> pa.Table:
        """The rows whose keys lie in the slots [first, stop), each key once, sorted by it."""
        found = [self._read(name, first, stop) for name in (self.files() if names is None else names)]
        table = packs.concat([each for some in found for each in some], self.schema)
        table = table.filter(pa.array(_inside(table.column(KEY), first, stop, self.slots)))
        table = table.sort_by([(KEY, "ascending"), *([(GRADE, "descending")] if GRADE in table.column_names else [])])
        keys = whole(table.column(KEY))
        new = np.ones(len(keys), bool)
        new[1:] = pc.not_equal(keys.slice(1), keys.slice(0, max(len(keys) - 1, 0))).to_numpy(False)
        return table.filter(pa.array(new)).combine_chunks()

    def _read(self, name: str, first: int, stop: int) -> list[pa.Table]:
        match = _NAME.fullmatch(name)
        slots = int(match[1]) if match else 1
        low, high = first * slots // self.slots, -(-stop * slots // self.slots)
        url = storage.join(self.folder, name)
        try:
            return [each.select(self.schema.names).cast(self.schema) for each in packs.read_pack(url, low, high)]
        except (DataError, KeyError, pa.ArrowException):
            log.warning("%s: damaged; its columns are measured again", storage.shown(url))
            storage.remove(url)
        except StorageError:
            if storage.exists(url):
                raise  # else merged into another one meanwhile, or removed
        return []

    def merge(self, names: Sequence[str]) -> str:
        """The rows of some files as one file; these are removed."""
        width = packs.run_of_slots([storage.join(self.folder, name) for name in names], self.slots)

        def tables() -> Iterator[pa.Table]:
            for first in range(0, self.slots, width):
                rows = self.read(first, min(first + width, self.slots), names)
                bounds = np.searchsorted(key_slots(rows.column(KEY), self.slots), np.arange(first, first + width + 1))
                for at in range(min(width, self.slots - first)):
                    yield rows.slice(bounds[at], bounds[at + 1] - bounds[at])

        name = f"{self.slots}-{packs.hash_of(' '.join(sorted(names)).encode()):016x}.pack"
        packs.publish_pack(storage.join(self.folder, name), tables(), self.slots)
        for old in names:
            if old != name:
                storage.remove(storage.join(self.folder, old))
        return name

    def to_merge(self) -> Iterator[list[str]]:
        """Groups of files to be merged, none when they are few."""
        names = self.files()
        if len(names) > MOST_FILES:
            yield from (names[at : at + MOST_FILES] for at in range(0, len(names), MOST_FILES))


def key_slots(keys: pa.Array | pa.ChunkedArray, slots: int) -> np.ndarray:
    """The range that each key (hex) lies in, int64: equal ranges, `slots` a power of two up to 65,536."""
    heads = pc.utf8_slice_codeunits(whole(keys), 0, 4).to_pylist()
    numbers = np.fromiter((int(head, 16) for head in heads), np.int64, len(heads))
    return numbers * slots >> 16


def _inside(keys: pa.ChunkedArray, first: int, stop: int, slots: int) -> np.ndarray:
    at = key_slots(keys, slots)
    return (at >= first) & (at < stop)
