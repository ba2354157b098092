"""Keeps one of several pairs whose images are the same, byte for byte or pixel for pixel."""

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.methods.duplicates import Duplicates, member_rows, rank_columns
from curation.table.arrow import whole
from pipeline.draws import hashed_u64

_COLUMN = {"bytes": "image_sha256", "pixels": "pixels"}


class ExactDuplicates(Duplicates):
    """`by` says what counts as the same: `bytes` of the file, `pixels` as displayed (needs image_decode), or either.

    With both, a pair that shares its bytes with one and its pixels with another joins all three into one group.
    """

    kind: Literal["exact_duplicates"] = "exact_duplicates"

    by: tuple[Literal["bytes", "pixels"], ...] = Field(("bytes", "pixels"), min_length=1)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]  # by bytes alone it may stand before image_decode
        decoded = ("pixels", "width", "height") if "pixels" in self.by else ()
        return ("image_sha256", *decoded, "captions.text")

    def survey(self, pairs: pa.Table, seed: int) -> pa.Table:
        ranks = rank_columns(pairs, self.merge_captions)
        notes = []
        for name in self.by:
            values = [f"{name} {value}" for value in pairs.column(_COLUMN[name]).to_pylist()]
            group = pa.array(hashed_u64(values))
            notes.append(ranks.append_column("group", group).append_column("key", pa.array(values, pa.string())))
        return pa.concat_tables(notes)

    def settle(self, notes: pa.Table) -> pa.Table:
        ordered = notes.sort_by([("key", "ascending"), ("uid", "ascending")])
        encoded = whole(ordered.column("key")).dictionary_encode()
        _, start, size = np.unique(encoded.indices.to_numpy(), return_index=True, return_counts=True)
        at = np.arange(ordered.num_rows)
        head = np.repeat(start, size)  # runs are in order, so each row meets the first row of its run
        several = np.repeat(size, size) > 1
        ranks = ordered.drop_columns(["group", "key"])
        return member_rows(ranks, at[several], np.where(at == head, -1, head)[several])
