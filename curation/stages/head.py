"""A number for each picture or caption by a small network on its vector: aesthetic, NSFW, watermark, one's own."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.methods.vectors.clip_model import maker_of
from curation.methods.vectors.heads import Activation, Head, Output, read_head, said_of
from curation.methods.vectors.stored import matrix
from curation.stage import Context, Function, Measure, Stage
from curation.stage_order import added
from pipeline.errors import RecipeError

_CAPTIONS = "captions."


class HeadScore(Measure):
    """Adds `name`, float32, of pictures to every KEY.json, too; null where there is no vector. It drops nothing:
    `threshold` and `top_fraction` do.

    column      of vectors: image_vector, or captions.text_vector (then `name` is added to each caption)
    weights     safetensors or a state dict of torch, of linear layers alone (methods/vectors/heads.py). LAION's
                aesthetic predictor, sac+logos+ava1-l14-linearMSE.pth, is read as it is: ViT-L/14, activation none.
                One that `clipmill head` trained is refused on vectors of another model, or another column
    activation  between layers: by default what the file says, else none
    output      of the last layer: plain, sigmoid, or softmax; by default what the file says, else plain
    index       which of several outputs is the number
    """

    kind: Literal["head"] = "head"
    store: ClassVar = "inline"
    file_fields: ClassVar[tuple[str, ...]] = ("weights",)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    weights: str = Field(min_length=1)
    column: str = Field("image_vector", min_length=1)
    activation: Activation | None = None
    output: Output | None = None
    index: int = Field(0, ge=0)

    @property
    def unit(self) -> Literal["pair", "caption"]:  # type: ignore[override]
        return "caption" if self.caption_fields else "pair"

    @property
    def caption_fields(self) -> bool:  # type: ignore[override]
        return self.column.startswith(_CAPTIONS)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.column,)

    @property
    def adds(self) -> tuple[pa.Field, ...]:  # type: ignore[override]
        return (pa.field(self.name, pa.float32()),)

    @property
    def added_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.name,)

    @property
    def exports(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self.caption_fields else (self.name,)

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        super().check(where, before)
        head = self._head(where)
        if self.index >= head.outputs:
            raise RecipeError(f"{where}.index", f"{self.index} of {head.outputs} outputs", "expected one that there is")
        said = said_of(self.weights)
        if said is not None and said.column != self.column:
            found = f"the head was trained on {said.column}, not on {self.column}"
            raise RecipeError(f"{where}.weights", found, "expected a head for this column", "clipmill head RECIPE")
        for stage in before:
            if self.column in added(stage):
                if said is not None and said.model != maker_of(stage):
                    found = f"the head was trained on vectors of another model than those of `{self.column}` here"
                    raise RecipeError(f"{where}.weights", found, "expected one for this model", "clipmill head RECIPE")
                kind = next(f.type for f in stage.adds if f.name == self.column.removeprefix(_CAPTIONS))
                if getattr(kind, "list_size", None) != head.width:
                    width = getattr(kind, "list_size", None)
                    held = f"vectors of {width}" if width else str(kind)
                    found = f"the head takes vectors of {head.width} values, `{self.column}` holds {held}"
                    hint = f"give `{stage.kind}` the model the head was made for, or train one: clipmill head RECIPE"
                    raise RecipeError(f"{where}.weights", found, "expected a head for the vectors of this model", hint)

    def open(self, ctx: Context) -> Function:
        head, column = self._head(self.kind), self.column.removeprefix(_CAPTIONS)

        def measure(units: pa.Table) -> pa.Table:
            vectors, rows = matrix(units.column(column))
            found = np.full(units.num_rows, np.nan, np.float32)
            for row, vector in zip(rows, vectors, strict=True):
                found[row] = head.of(vector)[self.index]
            return pa.table({self.name: pa.array(found, mask=np.isnan(found))})

        return measure

    def _head(self, where: str) -> Head:
        return read_head(self.weights, self.activation, self.output, where)
