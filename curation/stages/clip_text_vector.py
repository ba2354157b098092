"""Each caption as a vector, by a text tower of open_clip."""

from typing import ClassVar, Literal

import pyarrow as pa

from curation.methods.vectors.clip_model import ClipVectors, as_column
from curation.stage import Context, Function


class ClipTextVector(ClipVectors):
    """Adds `text_vector` to each caption, float16 of unit length: each distinct text once."""

    kind: Literal["clip_text_vector"] = "clip_text_vector"
    unit: ClassVar = "text"
    reads: ClassVar[tuple[str, ...]] = ("captions.text",)
    added_names: ClassVar[tuple[str, ...]] = ("text_vector",)
    caption_fields: ClassVar[bool] = True

    def open(self, ctx: Context) -> Function:
        model, width = self.loaded(), self.adds[0].type.list_size

        def measure(texts: pa.Table) -> pa.Table:
            found = model.texts(texts.column("text").to_pylist(), self.chunk)
            return pa.table({"text_vector": as_column(found, width)})

        return measure
