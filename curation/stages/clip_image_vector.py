"""Each picture as a vector, by an image tower of open_clip: for scores, clusters and what else compares pictures."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from curation.methods.vectors.clip_model import ClipVectors, as_column
from curation.stage import Context, Function
from pipeline.images.decoder import Picture, Refused


class ClipImageVector(ClipVectors):
    """Adds `image_vector`, float16 of unit length. A picture that does not decode goes for the decoder's reason."""

    kind: Literal["clip_image_vector"] = "clip_image_vector"
    version: ClassVar = 2
    unit: ClassVar = "image"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    added_names: ClassVar[tuple[str, ...]] = ("image_vector",)

    def open(self, ctx: Context) -> Function:
        model, width = self.loaded(), self.adds[0].type.list_size

        def measure(images: pa.Table) -> pa.Table:
            found, reasons = np.zeros((images.num_rows, width), np.float16), [None] * images.num_rows
            pictures = {}
            for at, body in enumerate(images.column("image")):
                try:
                    pictures[at] = Picture(body.as_py()).rgb(model.background)
                except Refused as refused:
                    reasons[at] = refused.reason  # type: ignore[call-overload]
            if pictures:
                found[list(pictures)] = model.images(list(pictures.values()), self.chunk)
            return pa.table({"image_vector": as_column(found, width), "reason": pa.array(reasons, pa.string())})

        return measure
