"""What lies in the pool in place of an image that was shrunk on its way in: a text beside the original's columns.

The columns image_sha256, image_size and image_ext always speak of the bytes as they were found. Where those were not
kept, `image_stored` says what was: "<sha256> <bytes> <ext> <original ext> <width> <height>", the sides being those of
the original as displayed, in pixels. It is "" where the bytes are kept as they came.
"""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from curation.table.arrow import whole

_FORM = r"^(?P<sha256>[0-9a-f]{64}) (?P<size>[0-9]+) "


IMAGE_STORED = "image_stored"


class Stored(NamedTuple):
    """sha256, size in bytes and format of what is stored; format and sides of the original."""

    sha256: str
    size: int
    ext: str
    source_ext: str
    width: int
    height: int

    def __str__(self) -> str:
        return " ".join(map(str, self))

    @classmethod
    def of(cls, text: str | None) -> "Stored | None":
        """What a value of `image_stored` says; None for ""."""
        if not text:
            return None
        sha256, size, ext, source_ext, width, height = text.split(" ")
        return cls(sha256, int(size), ext, source_ext, int(width), int(height))


def sha256_of_stored(pairs: pa.Table) -> pa.Array:
    """Of each pair that of the bytes that lie in the pool: what is measured of an image is kept by it."""
    return pc.coalesce(_said(pairs, "sha256"), whole(pairs.column("image_sha256")))


def size_of_stored(pairs: pa.Table) -> pa.Array:
    """Of each pair the bytes that lie in the pool, int64."""
    return pc.coalesce(_said(pairs, "size").cast(pa.int64()), whole(pairs.column("image_size")))


def _said(pairs: pa.Table, name: str) -> pa.Array:
    return pc.struct_field(pc.extract_regex(whole(pairs.column(IMAGE_STORED)), _FORM), name)
