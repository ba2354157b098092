"""Of several captures of one url, which one counts, and what all of them ask for."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table import robots
from curation.table.coded import WORDS, Coded

# Place comes last: it can only decide between rows that say the same, and then lends them its bytes.
_ORDER = (
    ("uid", "ascending"),
    ("worth", "ascending"),
    ("fetched_at", "descending"),
    ("sha256", "ascending"),
    ("location", "ascending"),
    ("status", "ascending"),
    ("problem", "ascending"),
    ("content_type", "ascending"),
    ("ext", "ascending"),
    ("extra", "ascending"),
    ("payload", "ascending"),
    ("part", "ascending"),
    ("offset", "ascending"),
)


def texts_of(schema: pa.Schema) -> list[str]:
    """The columns that `coded` wants as dictionaries. Uids stay texts."""
    return [f.name for f in schema if pa.types.is_string(f.type) and f.name != "uid"]


def together(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """The rows of all tables, texts as dictionaries."""
    texts = texts_of(schema)
    kinds = [pa.field(f.name, WORDS if f.name in texts else f.type) for f in schema]
    return pa.concat_tables([table.cast(pa.schema(kinds)) for table in tables or [schema.empty_table()]])


def coded(tables: Sequence[pa.Table], schema: pa.Schema) -> Coded:
    """The rows of all tables, with ranks for texts: a page's address and robots stand in many rows."""
    return Coded.of(together(tables, schema))


def starts(*columns: pa.ChunkedArray) -> np.ndarray:
    """True where a row of sorted columns differs from the row before it."""
    length = len(columns[0])
    new = np.zeros(length, bool)
    new[:1] = True
    for column in columns:
        new[1:] |= pc.not_equal(column.slice(1), column.slice(0, max(length - 1, 0))).to_numpy(zero_copy_only=False)
    return new


def best_images(images: Coded) -> pa.Table:
    """One row per uid: stored bytes before redirects before errors, then the newest capture, then by content (the
    smallest sha256 and so on)."""
    table = images.table
    moved = images.where("location", pc.not_equal(images.words["location"], ""))
    worth = pc.if_else(pc.is_valid(table.column("size")), 0, pc.if_else(moved, 1, 2))
    table = table.append_column("worth", worth).sort_by(list(_ORDER))
    return table.filter(pa.array(starts(table.column("uid")))).drop_columns(["worth"])


def united(coded: Coded, keys: list[str], column: str) -> dict[tuple[object, ...], str]:
    """key (ranks, but for uids) -> the union of the non-empty robots texts in `column`."""
    table, words = coded.table, coded.words[column].to_pylist()
    spoken = table.filter(coded.where(column, pc.not_equal(coded.words[column], "")))
    found: dict[tuple[object, ...], set[int]] = {}
    for *key, value in zip(*(spoken.column(name).to_pylist() for name in [*keys, column]), strict=True):
        found.setdefault(tuple(key), set()).add(value)
    return {key: robots.joined((words[rank] for rank in ranks), sort=True)[0] for key, ranks in found.items()}
