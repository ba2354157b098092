"""Arrow tables and columns as one piece: joined, sorted by their plain columns; and pyarrow without pandas."""

import sys
from contextlib import suppress

import pyarrow as pa

from pipeline.errors import DataError, one_line


def sorted_plainly(table: pa.Table, first: tuple[str, ...] = ()) -> pa.Table:
    """Sorted by the columns `first` (those it has), then by every other column that is not nested, in order."""
    plain = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
    names = [*(n for n in first if n in plain), *(n for n in plain if n not in first)]
    if not names or table.num_rows < 2:
        return table
    return table.sort_by([(name, "ascending") for name in names]).combine_chunks()


def whole(data: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array; pyarrow keeps a column without chunks chunked. DataError when it is more than 32-bit offsets reach."""
    if not isinstance(data, pa.ChunkedArray):
        return data
    try:
        return pa.concat_arrays(data.chunks) if data.num_chunks else pa.array([], data.type)
    except pa.ArrowInvalid as error:
        found, hint = f"too much text in one column: {one_line(error)}", "give `curate.buckets` a larger power of two"
        raise DataError("curate", found, "at most 2 GiB a bucket", hint) from error


def concat(tables: list[pa.Table]) -> pa.Table:
    """Rows of all tables; a column that one lacks (an empty table of an older schema) is null there."""
    kept = [t for t in tables if t.num_rows] or tables[:1]
    return pa.concat_tables(kept, promote_options="permissive").combine_chunks()


def with_columns(pairs: pa.Table, columns: pa.Table) -> pa.Table:
    """`pairs` with the columns of `columns`, in place of those of the same name."""
    if columns.num_rows != pairs.num_rows:
        raise ValueError(f"{columns.num_rows} rows of columns for {pairs.num_rows} pairs")
    for f in columns.schema:
        at = pairs.schema.get_field_index(f.name)
        data = columns.column(f.name)
        pairs = pairs.append_column(f, data) if at < 0 else pairs.set_column(at, f, data)
    return pairs


def without_pandas() -> None:
    """Before pyarrow makes its first array it loads pandas, to see whether what it is given is of it: 0.2 s of each
    process. Told once that there is none, it goes on without. Only where no other thread is."""
    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _Without)
    try:
        pa.array(range(0))
    finally:
        sys.meta_path.remove(_Without)


class _Without:
    """Finds no pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def with_pandas() -> None:
    """As pyarrow would have it: what a stranger's function gives may be of pandas."""
    with suppress(ImportError):
        import pandas

        pa.Schema.from_pandas(pandas.DataFrame())  # has pyarrow look again
