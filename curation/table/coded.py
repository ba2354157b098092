"""Texts as numbers: a table whose text columns hold ranks into sorted lists of distinct words.

A page's address stands in the row of every image on it, so a table of texts is many times larger than what it says,
and over 2 GiB of one column arrow's 32-bit offsets end. Ranks sort, compare and join as their texts would (by code
point), at 4 bytes each; texts are made again for a few rows at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WORDS = pa.dictionary(pa.int32(), pa.large_string())


def encoded(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    """Values as an array that `Coded.of` takes: texts as a dictionary, the rest as it is."""
    if pa.types.is_string(kind):
        return pa.array(values, pa.large_string()).dictionary_encode()
    return pa.array(values, kind)


@dataclass(frozen=True, slots=True)
class Coded:
    """table: int32 ranks (null for null) in place of texts; words: column -> its distinct texts, sorted."""

    table: pa.Table
    words: dict[str, pa.LargeStringArray]

    @classmethod
    def of(cls, table: pa.Table) -> "Coded":
        """Columns of dictionaries become ranks, all others stay."""
        words: dict[str, pa.LargeStringArray] = {}
        for at, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                ranks, words[field.name] = _ranked(table.column(at).cast(WORDS))
                table = table.set_column(at, pa.field(field.name, pa.int32()), ranks)
        return cls(table, words)

    def filter(self, rows: pa.Array | pa.ChunkedArray) -> "Coded":
        return Coded(self.table.filter(rows), self.words)

    def where(self, name: str, holds: pa.Array) -> pa.ChunkedArray:
        """Per row what `holds` says of its word."""
        return pc.take(holds, self.table.column(name))

    def text(self, name: str, rows: pa.Table | None = None) -> pa.Array:
        """The column as large texts again, of all rows or of some that were taken from the table."""
        ranks = (self.table if rows is None else rows).column(name)
        if name not in self.words:
            return ranks.combine_chunks()
        return self.words[name].take(ranks.combine_chunks())

    def plain(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """Some rows that were taken from the table, as a table of `schema`."""
        return pa.table([self.text(field.name, rows).cast(field.type) for field in schema], schema=schema)


def _ranked(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.LargeStringArray]:
    if not column.num_chunks:
        return pa.chunked_array([], pa.int32()), pa.array([], pa.large_string())
    column = column.unify_dictionaries()
    words = column.chunk(0).dictionary
    order = pc.sort_indices(words)
    rank = np.empty(len(words), np.int32)
    rank[order.to_numpy()] = np.arange(len(words), dtype=np.int32)
    ranks = pa.array(rank)
    return pa.chunked_array([ranks.take(chunk.indices) for chunk in column.chunks], pa.int32()), words.take(order)
