"""The stage "emit", the last of every recipe: what is left must be writable by the contract."""

from collections.abc import Callable
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.settings import EmitSettings
from curation.stage import ImageMeasure, MeasureImages, Verdicts
from curation.table import arrow
from pipeline.contract.pairs import EXTS
from pipeline.images.decoder import Refused, decode

EMIT = "emit"
"""The name it is reported under."""


def gate(pairs: pa.Table, measured: Callable[[ImageMeasure, pa.Table], Verdicts], settings: EmitSettings) -> Verdicts:
    """The verdicts of the stage; `measured` runs a measure stage over pairs.

    no_caption  every caption was dropped
    format      an image format that the contract does not hold, with emit.other_formats = drop
    and the decoder's reasons, where no stage before has decoded the image
    """
    web = pc.is_in(pairs.column("image_ext"), pa.array(EXTS))
    reason = pc.if_else(pc.or_(web, settings.other_formats == "png"), pa.scalar(None, pa.string()), "format")
    silent = pc.equal(pc.list_value_length(pairs.column("captions")), 0)
    reason = pc.if_else(silent, "no_caption", reason)
    if {"width", "height"} <= set(pairs.schema.names):
        return Verdicts(reason=reason)
    probed = measured(EmitProbe(), pairs)
    return Verdicts(reason=pc.coalesce(arrow.whole(reason), probed.reason), columns=probed.columns)


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
