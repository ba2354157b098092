"""How well each caption fits the picture, as CLIP sees it."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.methods.vectors.stored import matrix
from curation.stage import Context, Function, Measure


class ClipScore(Measure):
    """Adds `score` to each caption: the cosine with the picture, float32 (DataComp's clip_score; Gadre et al., 2023).

    It drops nothing: `threshold` and `top_fraction` do, by captions.score.
    """

    kind: Literal["clip_score"] = "clip_score"
    unit: ClassVar = "caption"
    store: ClassVar = "inline"
    reads: ClassVar[tuple[str, ...]] = ("image_vector", "captions.text_vector")
    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("score", pa.float32()),)
    caption_fields: ClassVar[bool] = True

    def open(self, ctx: Context) -> Function:
        return lambda units: pa.table({"score": cosines(units.column("image_vector"), units.column("text_vector"))})


def cosines(left: pa.ChunkedArray, right: pa.ChunkedArray) -> pa.Array:
    """float32 [row]; null where one is missing. Row by row, so that no neighbour changes the last bit."""
    found = np.full(len(left), np.nan, np.float32)
    (mine, at), (theirs, there) = matrix(left), matrix(right)
    both = np.intersect1d(at, there)
    if len(both):
        a = mine[np.searchsorted(at, both)].astype(np.float32)
        b = theirs[np.searchsorted(there, both)].astype(np.float32)
        norms = np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1))
        found[both] = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1)
    return pa.array(found, mask=np.isnan(found))
