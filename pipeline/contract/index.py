"""The index: where every pair of a shard lies, its checksum and its light columns. Made by the writer, or by a scan."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.contract.manifest import ShardEntry
from pipeline.contract.pairs import MAX_MEMBER, MAX_PAIR, index_name, row_checksum
from pipeline.errors import DataError

# Offsets are bytes from the start of the tar. A member that is absent has length 0.
INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("uid", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("ext", pa.string(), nullable=False),
        pa.field("image_offset", pa.int64(), nullable=False),
        pa.field("image_length", pa.int64(), nullable=False),
        pa.field("text_offset", pa.int64(), nullable=False),
        pa.field("text_length", pa.int64(), nullable=False),
        pa.field("json_offset", pa.int64(), nullable=False),
        pa.field("json_length", pa.int64(), nullable=False),
        pa.field("checksum", pa.uint64(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("num_captions", pa.int32(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("language", pa.string()),
        pa.field("url", pa.string()),
    ]
)


_PLACES = [name for name in INDEX_SCHEMA.names if name.endswith(("offset", "length"))]
_SLACK = 1 << 20  # bytes of a parquet file that are not its rows
_AGAIN = "copy this file again, or make the dataset again"


class Span(NamedTuple):
    """A member's payload and where it starts."""

    offset: int
    data: bytes


def index_row(
    key: str, uid: str, row: int, place: tuple[int, int], ext: str, spans: tuple[Span, Span, Span], meta: dict[str, Any]
) -> dict[str, Any]:
    """One row of the index. place: (offset, length) of the whole pair; spans: image, text, json."""
    image, text, json_ = spans
    return {
        "key": key, "uid": uid, "row": row, "offset": place[0], "length": place[1], "ext": ext,
        "image_offset": image.offset, "image_length": len(image.data),
        "text_offset": text.offset, "text_length": len(text.data),
        "json_offset": json_.offset, "json_length": len(json_.data),
        "checksum": row_checksum(image.data, text.data, json_.data),
        "caption": text.data.decode(),
        "num_captions": max(1, len(meta["captions"])) if isinstance(meta.get("captions"), list) else 1,
        **{side: _side(meta.get(side)) for side in ("width", "height")},
        **{name: meta[name] if isinstance(meta.get(name), str) else None for name in ("language", "url")},
    }  # fmt: skip


def _side(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def index_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, INDEX_SCHEMA)


def read_index(folder: str, entry: ShardEntry, tar_bytes: int | None = None) -> pa.Table:
    """The index of one shard of a finished dataset, its sha256 and shape verified. Raises DataError naming it.

    tar_bytes: how large the tar is, where that is not known to be what the manifest says.
    """
    url = storage.join(folder, index_name(entry.name))
    data, where = storage.read_bytes(url), storage.shown(url)
    found = hashlib.sha256(data).hexdigest()
    if found != entry.index_sha256:
        expected = f"{entry.index_sha256} as the manifest says"
        raise DataError(
            f"{where}, bytes 0 to {len(data)}",
            f"sha256 {found}",
            expected,
            _AGAIN,
        )
    # Every string of an index stands in the tar, too, and so do a pair's headers: more rows or bytes are a bomb.
    most = storage.Most(entry.pairs, (entry.bytes if tar_bytes is None else tar_bytes) + _SLACK)
    table = storage.parquet_table(pa.BufferReader(data), where, INDEX_SCHEMA.names, most)
    if table.num_rows != entry.pairs:
        raise DataError(where, f"{table.num_rows} rows", f"{entry.pairs} pairs as the manifest says")
    return _sound(table, where, entry.bytes)


def _sound(table: pa.Table, where: str, tar_bytes: int) -> pa.Table:
    """The table in the schema of the index, when every row names places inside the tar. Else DataError."""
    for column in INDEX_SCHEMA:
        found = table[column.name]
        if found.type != column.type or (found.null_count and not column.nullable):
            expected = f"{column.type}{'' if column.nullable else ' without nulls'}"
            raise DataError(where, f"column {column.name} of {found.type}, {found.null_count} nulls", expected, _AGAIN)
    table = table.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
    number = {name: table[name].to_numpy() for name in _PLACES}
    offset, length = number["offset"], number["length"]
    bad = (offset < 0) | (length <= 0) | (length > MAX_PAIR) | (offset > tar_bytes - length)
    for member in ("image", "text", "json"):
        start, size = number[f"{member}_offset"], number[f"{member}_length"]
        outside = (start < offset) | (start > offset + length - np.minimum(size, length))
        bad |= (size < 0) | (size > np.minimum(length, MAX_MEMBER)) | ((size > 0) & outside)
    if bad.any():
        row = int(np.argmax(bad))
        place = {name: int(values[row]) for name, values in number.items()}
        raise DataError(f"{where}, row {row}", f"{place}", f"places inside a tar of {tar_bytes} bytes", _AGAIN)
    return table
