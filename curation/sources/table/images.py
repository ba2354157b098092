"""Images that a parquet table holds: img2dataset's `parquet` output has their bytes in a column called as they are
encoded, Hugging Face's datasets in the field `bytes` of a column `image`."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

_BYTES = "bytes"


class Image(NamedTuple):
    """body: None where it is larger than asked for; then `sha256` is told, in hex."""

    body: bytes | None
    sha256: str = ""

    def digest(self) -> str:
        return self.sha256 or hashlib.sha256(self.body or b"").hexdigest()


def columns_of(schema: pa.Schema) -> list[str]:
    """The columns that may hold images."""
    return [field.name for field in schema if _is_bytes(field.type) or _is_struct(field.type)]


def images_of(column: pa.Array, most: int) -> Sequence[Image | None]:
    """Of each row of such a column, None where it has none; `most`: bytes of an image that is read."""
    if isinstance(column, pa.StructArray):
        column = column.flatten()[column.type.get_field_index(_BYTES)]
    places: pa.Array = pa.array(range(len(column)))
    if isinstance(column, pa.DictionaryArray):
        column, places = column.dictionary, column.indices
    else:
        places = pc.if_else(column.is_valid(), places, None)
    sizes = pc.binary_length(column).to_pylist()
    return [None if at is None or not sizes[at] else _image(column[at], sizes[at] > most) for at in places.to_pylist()]


def _image(value: pa.Scalar, is_too_big: bool) -> Image:
    return Image(None, hashlib.sha256(value.as_buffer()).hexdigest()) if is_too_big else Image(value.as_py())


def _is_struct(kind: pa.DataType) -> bool:
    at = kind.get_field_index(_BYTES) if pa.types.is_struct(kind) else -1
    return at >= 0 and _is_bytes(kind.field(at).type)


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
