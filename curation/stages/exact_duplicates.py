"""Keeps one of several pairs whose images are the same, byte for byte or pixel for pixel."""

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.pictures.duplicates import CAPTIONS, SAME, Duplicates, best_notes, best_of, best_told, several
from curation.stage import Context, Told
from curation.table.arrow import whole


class ExactDuplicates(Duplicates):
    """`by` says what counts as the same: `bytes` of the file, `pixels` as displayed (needs image_decode), or either.
    Files of the same bytes have the same pixels, so with both the pixels decide.

    Reasons: copy (detail: the survivor's uid), too_many_copies.
    """

    kind: Literal["exact_duplicates"] = "exact_duplicates"

    by: tuple[Literal["bytes", "pixels"], ...] = Field(("bytes", "pixels"), min_length=1)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]  # by bytes alone it may stand before image_decode
        decoded = ("pixels", "width", "height") if "pixels" in self.by else ("image_sha256",)
        return (*decoded, "captions.text")

    @property
    def steps(self) -> tuple[str, ...]:
        return (SAME, CAPTIONS) if self.merge_captions else (SAME,)

    def _keys(self, pairs: pa.Table) -> pa.Array:
        return whole(pairs.column("pixels" if "pixels" in self.by else "image_sha256"))

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        if told.step == CAPTIONS:
            return self.caption_notes(pairs, told)
        return best_notes(self._keys(pairs), self.ranks(pairs))

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        return best_of(notes) if step == SAME else self.fewer(notes)

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        return several(notes) if step == SAME else self.hand_over(notes)

    def survivors(self, pairs: pa.Table, told: Told) -> pa.Array:
        return whole(best_told(told, self._keys(pairs)).column("rank"))

    def sizes(self, pairs: pa.Table, told: Told, survivors: pa.Array) -> pa.Array:
        return whole(best_told(told, self._keys(pairs)).column("size"))

    def leads(self, pairs: pa.Table, told: Told) -> pa.Array:
        return pc.is_valid(self.survivors(pairs, told))
