"""How well each caption fits the picture, as CLIP sees it."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.methods.vectors.clip_model import ClipVectors
from curation.methods.vectors.stored import matrix
from curation.stage import Context, Function, Measure, Stage
from curation.stage_order import added
from pipeline.errors import RecipeError


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

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        """Both vectors are those of one model: others have nothing to do with each other, whatever their width."""
        of = {name: stage for stage in before for name in added(stage) if name in self.reads}
        models = {name: stage.model_digest() for name, stage in of.items() if isinstance(stage, ClipVectors)}
        if len(set(models.values())) > 1:
            found = "vectors of pictures and of captions by two models"
            raise RecipeError(where, found, "expected those of one", "give both stages the same model and pretrained")

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
