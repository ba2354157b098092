"""Rows to look at: few, small, and the same ones whatever the buckets, the cut or the order of the work.

Who is shown is decided by a keyed hash of the uid, where a stage gives no order of its own. Texts are cut: a caption of
a megabyte is nothing to look at.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pool.store import PLACE
from pipeline.draws import keyed_u64, mixed

CHARACTERS = 500
"""Of a caption, an address or a detail."""
_CUT = ("url", "caption", "detail")
_NAMES = ("uid", "url", "caption", *PLACE, "reason", "detail")


def order_of(uids: Sequence[str], seed: int) -> np.ndarray:
    """A keyed random order of uids, uint64."""
    both = np.frombuffer(bytes.fromhex("".join(uids)), ">u8").astype(np.uint64).reshape(-1, 2)
    return mixed(both[:, 1] ^ mixed(both[:, 0] ^ np.uint64(keyed_u64(seed, "examples"))))


def examples(seed: int, table: pa.Table, most: int) -> list[dict[str, Any]]:
    """The first `most` rows in keyed order, each with `order` and what a thumbnail needs."""
    order = order_of(table.column("uid").to_pylist(), seed)
    rows = np.argsort(order, kind="stable")[:most]
    return [{**row, "order": int(order[at])} for row, at in zip(rows_of(table, rows), rows, strict=True)]


def rows_of(table: pa.Table, rows: np.ndarray) -> list[dict[str, Any]]:
    """Some rows of a table of pairs or of a ledger."""
    some = table.select([n for n in _NAMES if n in table.schema.names]).take(pa.array(rows, pa.int64()))
    for name in _CUT:
        at = some.schema.get_field_index(name)
        if at >= 0:
            some = some.set_column(at, name, shortened(some.column(name)))
    return some.to_pylist()


def shortened(texts: Any) -> Any:
    """An array of texts, each cut to what is shown."""
    return pc.utf8_slice_codeunits(texts, 0, CHARACTERS)


def first(rows: Iterable[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The first `most` of some such rows, by their order."""
    return sorted(rows, key=lambda row: (row.get("rank", 0.0), row["order"], row["uid"], row.get("caption") or ""))[
        :most
    ]
