"""What the contract must know of an image, where no stage of a recipe measures it."""

from typing import ClassVar, Literal

import pyarrow as pa

from curation.stage import Context, Function, Measure
from pipeline.images.decoder import Refused, decode


class Probe(Measure):
    """Does it decode, and its size as displayed. Reported under the name of the gate that asks for it."""

    kind: Literal["emit"] = "emit"
    unit: ClassVar = "image"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("width", pa.int32()), pa.field("height", pa.int32()))
    batch: ClassVar[int] = 64

    def open(self, ctx: Context) -> Function:
        schema = pa.schema([*self.adds, pa.field("reason", pa.string())])

        def row(body: bytes) -> dict[str, object]:
            try:
                image, _ = decode(body)
            except Refused as refused:
                return {"reason": refused.reason}
            return {"width": image.width, "height": image.height}

        return lambda images: pa.Table.from_pylist(
            [row(each.as_py()) for each in images.column("image")], schema=schema
        )
