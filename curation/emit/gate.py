"""The stage "emit", the last of every recipe: what is left must be writable by the contract."""

from typing import ClassVar, Literal

import pyarrow as pa

from curation.settings import EmitSettings
from curation.stage import ImageMeasure, MeasureImages
from pipeline.contract.pairs import EXTS
from pipeline.images.decoder import Refused, decode


def needs_conversion(ext: str, settings: EmitSettings) -> bool:
    return settings.resize is not None or ext not in EXTS


class EmitProbe(ImageMeasure):
    """What the contract must know of an image and no stage of the recipe has measured: does it decode, its size."""

    kind: Literal["emit"] = "emit"
    adds: ClassVar[tuple[pa.Field, ...]] = (pa.field("width", pa.int32()), pa.field("height", pa.int32()))

    def open(self) -> MeasureImages:
        schema = pa.schema([*self.adds, pa.field("reason", pa.string())])

        def row(body: bytes) -> dict[str, object]:
            try:
                image, _ = decode(body)
            except Refused as refused:
                return {"reason": refused.reason}
            return {"width": image.width, "height": image.height}

        return lambda bodies: pa.Table.from_pylist([row(body) for body in bodies], schema=schema)
