"""The rows of one part, kept small while they come and written sorted."""

from collections.abc import Iterator

import pyarrow as pa

from curation.table import parquet, uids
from curation.table.coded import Coded, encoded
from pipeline import storage

_FLUSH_ROWS, _FLUSH_CHARS = 50_000, 32 << 20
SAMPLE = 128
"""The most uids that a table gives to the sample of its part: buckets of equal size are cut by it."""


class Rows:
    """Tuples in the order of `schema`, held as batches in which each distinct text stands once."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[tuple[object, ...]] = []
        self._chars = 0
        self._batches: list[pa.Table] = []
        self.count = 0

    def add(self, row: tuple[object, ...]) -> None:
        self._rows.append(row)
        self.count += 1
        for value in row:
            if type(value) is str:
                self._chars += len(value)
        if len(self._rows) >= _FLUSH_ROWS or self._chars >= _FLUSH_CHARS:
            self._flush()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = [encoded(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._batches.append(pa.table(arrays, names=self._schema.names))
        self._rows, self._chars = [], 0

    def publish(self, url: str) -> tuple[storage.Note, list[str]]:
        """Writes all rows sorted by uid, then by every other column: the order they came in leaves no trace. Returns
        the note of the file, and uids of rows as far apart in it as can be, from the first to the last."""
        self._flush()
        coded = Coded.of(pa.concat_tables(self._batches))
        self._batches = []
        names = ["uid", *(name for name in self._schema.names if name != "uid")]
        rows = coded.table.sort_by([(name, "ascending") for name in names])

        def groups() -> Iterator[pa.Table]:
            for at in range(0, max(rows.num_rows, 1), parquet.GROUP_ROWS):
                yield coded.plain(rows.slice(at, parquet.GROUP_ROWS), self._schema)

        sample = coded.text("uid", rows.take(pa.array(uids.evenly(rows.num_rows, SAMPLE))))
        return parquet.publish_groups(url, self._schema, groups(), "uid"), sample.to_pylist()
