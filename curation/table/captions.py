"""The captions of pairs as one flat table and back; everything vectorised, nothing loops over rows.

    flat = explode(pairs)                      # row | text | source | ... : one row per caption
    keep = flat.filter(long_enough(flat["text"]))
    captions = implode(keep, pairs.num_rows)   # goes into Verdicts.captions

A flat table keeps the captions of a pair in their order, and its rows in the order of the pairs.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table.arrow import whole

ROW = "row"
NEGATIVES = "negatives"
"""A column that some stages add: texts that do not describe the picture. Nothing that reads captions sees it."""
NEGATIVE_FIELDS = ("text", "source", "of", "model", "prompt_version")


def column(pairs: pa.Table) -> pa.ListArray:
    """PAIRS.captions as one array starting at offset 0."""
    return whole(pairs.column("captions"))


def counts(captions: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Captions of each pair, int64; null counts 0."""
    return pc.fill_null(pc.list_value_length(captions), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def explode(pairs: pa.Table) -> pa.Table:
    """One row per caption: `row` (int64, index of the pair in `pairs`) and every field of the caption struct."""
    captions = column(pairs)
    rows = np.repeat(np.arange(len(captions), dtype=np.int64), counts(captions))
    flat = captions.flatten()  # honours slices and skips nulls, unlike .values
    fields = captions.type.value_type
    values = flat.flatten() if len(flat) else [pa.array([], f.type) for f in fields]
    schema = pa.schema([pa.field(ROW, pa.int64(), nullable=False), *fields])
    return pa.Table.from_arrays([pa.array(rows), *values], schema=schema)


def implode(flat: pa.Table, num_pairs: int) -> pa.ListArray:
    """Lists of structs, one per pair, from a flat table whose `row` column is non-decreasing.

    All columns but `row` become struct fields, in their order. A pair without rows gets an empty list.
    """
    rows = flat.column(ROW).to_numpy()
    if len(rows) and (np.any(np.diff(rows) < 0) or rows[0] < 0 or rows[-1] >= num_pairs):
        raise ValueError(f"rows of a caption table must be sorted and lie in [0, {num_pairs})")
    offsets = np.searchsorted(rows, np.arange(num_pairs + 1)).astype(np.int32)
    fields = [f for f in flat.schema if f.name != ROW]
    arrays = [whole(flat.column(f.name)) for f in fields]
    structs = pa.StructArray.from_arrays(arrays, fields=fields)
    return pa.ListArray.from_arrays(pa.array(offsets), structs)


def replace(pairs: pa.Table, captions: pa.Array | pa.ChunkedArray) -> pa.Table:
    """`pairs` with other caption lists; the struct may have other fields than before."""
    at = pairs.schema.get_field_index("captions")
    return pairs.set_column(at, pa.field("captions", captions.type, nullable=False), captions)


def with_fields(pairs: pa.Table, columns: pa.Table) -> pa.Table:
    """`pairs` whose captions carry the columns of `columns` (one row per caption, in `explode` order) as fields.

    A field of the same name is replaced in its place.
    """
    flat = explode(pairs)
    for field in columns.schema:
        at = flat.schema.get_field_index(field.name)
        data = columns.column(field.name)
        flat = flat.append_column(field, data) if at < 0 else flat.set_column(at, field, data)
    return replace(pairs, implode(flat, pairs.num_rows))


def first(pairs: pa.Table, field: str = "text") -> pa.Array:
    """One field of each pair's default (first) caption; null where a pair has none."""
    captions = column(pairs)
    flat = explode(pairs)
    lengths = counts(captions)
    starts = np.cumsum(lengths) - lengths
    return whole(flat.column(field)).take(pa.array(starts, mask=lengths == 0))


def with_negatives(pairs: pa.Table, made: pa.Table) -> tuple[pa.ListArray, int]:
    """(the column NEGATIVES of `pairs` with `made` behind what is there, how many were added).

    made: ROW (non-decreasing) and those of NEGATIVE_FIELDS that are known; `of`: the caption that each contradicts. A
    text that is a caption of the pair is true of it, and one that is there already is not added again.
    """
    columns = [made.column(ROW), *(_text(made, name) for name in NEGATIVE_FIELDS)]
    made = pa.table(columns, names=[ROW, *NEGATIVE_FIELDS])
    there = made.slice(0, 0)
    if NEGATIVES in pairs.column_names:
        there = explode(replace(pairs, whole(pairs.column(NEGATIVES)))).select(made.column_names).cast(made.schema)
    own = explode(pairs).select([ROW, "text"])
    seen = set(zip(*(own.column(name).to_pylist() for name in (ROW, "text")), strict=True))
    both = pa.concat_tables([there, made])
    stays = []
    for at, key in enumerate(zip(*(both.column(name).to_pylist() for name in (ROW, "text")), strict=True)):
        stays.append(at < there.num_rows or key not in seen)
        seen.add(key)
    both = both.filter(pa.array(stays, pa.bool_()))
    order = np.argsort(both.column(ROW).to_numpy(), kind="stable")
    return implode(both.take(pa.array(order)), pairs.num_rows), both.num_rows - there.num_rows


def _text(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        return pa.array([""] * table.num_rows, pa.string())
    return pc.fill_null(whole(table.column(name)).cast(pa.string()), "")
