"""Bounds how many pairs may share one caption: what stands under a thousand images describes none of them."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.reasons import sift
from curation.stage import Global, Verdicts
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.draws import hashed_u64, keyed_uniform


class CaptionFrequency(Global):
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

    max_pairs: int = Field(ge=1)
    excess: Literal["keep_sample", "drop_all"] = "keep_sample"

    def survey(self, pairs: pa.Table, seed: int) -> pa.Table:
        """One note per distinct (pair, text): group, text, draw, uid."""
        keyed = _keyed(pairs, seed)
        keyed = keyed.group_by(["text", "uid", "draw"]).aggregate([])
        return keyed.append_column("group", pa.array(_groups(whole(keyed.column("text")))))

    def settle(self, notes: pa.Table) -> pa.Table:
        """The texts with too many pairs, each with the draw and uid of the last pair that may keep it."""
        names = ["text", "draw", "uid"]
        ordered = notes.select(names).sort_by([(name, "ascending") for name in names])
        runs = pc.run_end_encode(whole(ordered.column("text")))
        ends = runs.run_ends.to_numpy().astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        many = ends - starts > self.max_pairs
        last = ordered.take(pa.array(starts[many] + self.max_pairs - 1, pa.int64()))
        last = last.rename_columns(["text", "draw", "last_uid"])  # no `uid`: every bucket needs every row
        if self.excess == "drop_all":
            last = last.set_column(1, "draw", pa.array(np.full(last.num_rows, -1.0)))  # below every draw
        return last

    def judge(self, pairs: pa.Table, folded: pa.Table, seed: int) -> Verdicts:
        flat = explode(pairs)
        keyed = _keyed(pairs, seed)
        at = pc.index_in(whole(keyed.column("text")), value_set=whole(folded.column("text")))
        limits = folded.take(at)
        draw, limit = keyed.column("draw"), limits.column("draw")
        tied = pc.and_(pc.equal(draw, limit), pc.greater(keyed.column("uid"), limits.column("last_uid")))
        lost = pc.fill_null(pc.or_(pc.greater(draw, limit), tied), False)
        reasons = pc.if_else(lost, pa.scalar("frequent"), pa.scalar(None, pa.string()))
        return sift(flat, whole(reasons), pairs.num_rows, whole(flat.column("text")))


def _keyed(pairs: pa.Table, seed: int) -> pa.Table:
    """Per caption, in the order of explode: text (as counted), uid, and the draw of the two together."""
    flat = explode(pairs)
    folded = _folded(whole(flat.column("text")))
    uids = whole(pairs.column("uid")).take(flat.column(ROW).combine_chunks())
    both = zip(uids.to_pylist(), folded.to_pylist(), strict=True)
    draws = (keyed_uniform(seed, "caption_frequency", uid, text) for uid, text in both)
    return pa.table({"text": folded, "uid": uids, "draw": np.fromiter(draws, np.float64, flat.num_rows)})


def _folded(texts: pa.Array) -> pa.Array:
    encoded = texts.dictionary_encode()
    folded = [" ".join(text.casefold().split()) for text in encoded.dictionary.to_pylist()]
    return pa.array(folded, pa.string()).take(encoded.indices)


def _groups(texts: pa.Array) -> np.ndarray:
    encoded = texts.dictionary_encode()
    return hashed_u64(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
