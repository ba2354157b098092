"""Bounds how many pairs may share one caption: what stands under a thousand images describes none of them."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.reasons import sift
from curation.stage import GROUP, Context, Group, Told, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.draws import hashed_u64, keyed_uniforms


class CaptionFrequency(Group):
    """Counts pairs per text (case-folded, spaces collapsed) and acts on texts shared by more than `max_pairs` pairs.

    keep_sample  the caption stays on `max_pairs` of its pairs, those with the smallest keyed draws (ties by uid): a
                 larger `max_pairs` only adds captions. A pair draws for each of its texts anew: texts that stand under
                 the same pairs do not all end on the same few
    drop_all     the caption goes everywhere

    Reason (of captions, and of pairs left without one): frequent; detail: the caption.
    """

    kind: Literal["caption_frequency"] = "caption_frequency"
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)
    version: ClassVar[int] = 2
    after_first: ClassVar[tuple[str, ...]] = ("excess",)

    max_pairs: int = Field(ge=1)
    excess: Literal["keep_sample", "drop_all"] = "keep_sample"

    def survey(self, pairs: pa.Table, told: Told, ctx: Context) -> pa.Table:
        """One note per distinct (pair, text): group, text, draw, uid as `by`."""
        keyed = _keyed(pairs, ctx.seed).rename_columns(["text", "by", "draw"])
        keyed = keyed.group_by(["text", "by", "draw"]).aggregate([])
        return keyed.append_column(GROUP, pa.array(_groups(whole(keyed.column("text")))))

    def combine(self, notes: pa.Table, step: str) -> pa.Table:
        """Of each text as many as may stay, the first ones, and one more, which says that there are others."""
        ordered = notes.sort_by([(name, "ascending") for name in ("text", "draw", "by")])
        _, starts, lengths = _runs(ordered)
        place = np.arange(ordered.num_rows) - np.repeat(starts, lengths)
        return ordered.filter(pa.array(place <= self.max_pairs))

    def settle(self, notes: pa.Table, step: str, ctx: Context) -> pa.Table:
        """The texts with too many pairs, each with the draw and uid of the last pair that may keep it."""
        ordered = self.combine(notes, step)
        _, starts, lengths = _runs(ordered)
        last = ordered.take(pa.array(starts[lengths > self.max_pairs] + self.max_pairs - 1, pa.int64()))
        if self.excess == "drop_all":
            none = pa.array(np.full(last.num_rows, -1.0))  # below every draw
            last = last.set_column(last.schema.get_field_index("draw"), "draw", none)
        return last

    def judge(self, pairs: pa.Table, told: Told, ctx: Context) -> Verdicts:
        limited = told.of("compare", _LIMITS)
        flat = explode(pairs)
        keyed = _keyed(pairs, ctx.seed)
        limits = limited.take(pc.index_in(whole(keyed.column("text")), value_set=whole(limited.column("text"))))
        draw, limit = keyed.column("draw"), limits.column("draw")
        tied = pc.and_(pc.equal(draw, limit), pc.greater(keyed.column("uid"), limits.column("by")))
        lost = pc.fill_null(pc.or_(pc.greater(draw, limit), tied), False)
        reasons = pc.if_else(lost, pa.scalar("frequent"), pa.scalar(None, pa.string()))
        return sift(flat, whole(reasons), pairs.num_rows, whole(flat.column("text")))


_LIMITS = pa.schema([("text", pa.string()), ("draw", pa.float64()), ("by", pa.string())])


def _runs(ordered: pa.Table) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """(text, first row, number of rows) of each run of equal texts."""
    runs = pc.run_end_encode(whole(ordered.column("text")))
    ends = runs.run_ends.to_numpy().astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return runs.values, starts, ends - starts


def _keyed(pairs: pa.Table, seed: int) -> pa.Table:
    """Per caption, in the order of explode: text (as counted), uid, and the draw of the two together."""
    flat = explode(pairs)
    folded = _folded(whole(flat.column("text")))
    uids = whole(pairs.column("uid")).take(flat.column(ROW).combine_chunks())
    draws = keyed_uniforms(seed, "caption_frequency", uids.to_pylist(), folded.to_pylist())
    return pa.table({"text": folded, "uid": uids, "draw": draws})


def _folded(texts: pa.Array) -> pa.Array:
    encoded = texts.dictionary_encode()
    folded = [" ".join(text.casefold().split()) for text in encoded.dictionary.to_pylist()]
    return pa.array(folded, pa.string()).take(encoded.indices)


def _groups(texts: pa.Array) -> np.ndarray:
    encoded = texts.dictionary_encode()
    return hashed_u64(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
