"""Tables of labels: a name and a number in each row, as csv, tsv, jsonl or parquet."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.table.arrow import whole
from pipeline import storage
from pipeline.errors import RecipeError, one_line

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


class Labels(NamedTuple):
    """by: the column that names what is labelled; bad: rows without a name, or without a finite number."""

    by: str
    names: list[str]
    numbers: np.ndarray
    bad: int


def read_labels(path: str, label: str, ways: Sequence[str], where: str) -> Labels:
    """The rows of a table. Exactly one of the columns `ways` names what is labelled. RecipeError: no such file or
    column, numbers that are none in a whole column."""
    table = _table(path, where)
    there = [name for name in ways if name in table.column_names]
    if len(there) != 1:
        found = f"{path} has the columns {', '.join(table.column_names[:20])}"
        raise RecipeError(where, found, f"expected exactly one of {', '.join(ways)}", "rename, or drop, a column")
    if label not in table.column_names:
        found, hint = f"{path} has no column {label!r}: {', '.join(table.column_names[:20])}", "head.label=COLUMN"
        raise RecipeError(where, found, "expected the column of the numbers", hint)
    names, numbers = whole(table.column(there[0])), whole(table.column(label))
    try:
        values = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
        names = names.cast(pa.string())
    except pa.ArrowException as error:
        raise RecipeError(where, f"{path}: {one_line(error)}", f"expected numbers in {label!r}", "") from None
    good = np.isfinite(values) & pc.fill_null(pc.not_equal(names, ""), False).to_numpy(zero_copy_only=False)
    kept = names.filter(pa.array(good)).to_pylist()
    return Labels(there[0], kept, values[good], int((~good).sum()))


def _table(path: str, where: str) -> pa.Table:
    if not path.endswith(SUFFIXES):
        raise RecipeError(where, f"found {path}", f"expected a file that ends in {', '.join(SUFFIXES)}", "")
    source = pa.BufferReader(storage.read_bytes(path)) if storage.exists(path) else None
    if source is None:
        raise RecipeError(where, f"{path}: no such file", "expected a table of labels", "head.labels=FILE")
    try:
        if path.endswith(".parquet"):
            import pyarrow.parquet as pq

            return pq.read_table(source)
        if path.endswith(".jsonl"):
            import pyarrow.json

            return pyarrow.json.read_json(source)
        import pyarrow.csv

        names = [*("uid", "url", "sha256", "text")]
        convert = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in names})
        parse = pyarrow.csv.ParseOptions(delimiter="\t" if path.endswith(".tsv") else ",", newlines_in_values=True)
        return pyarrow.csv.read_csv(source, convert_options=convert, parse_options=parse)
    except pa.ArrowException as error:
        raise RecipeError(where, f"{path}: {one_line(error)}", "expected a table with a header", "") from None
