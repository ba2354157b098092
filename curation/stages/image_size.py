"""Drops images by their shape and weight; all bounds are inclusive."""

from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.methods.reasons import mark
from curation.stage import Context, Rule, Verdicts


class ImageSize(Rule):
    """Sides in pixels as displayed; aspect is longer side over shorter side.

    Reasons: too_small, too_large, aspect, few_bytes, many_bytes; detail: "<width>x<height>, <bytes> bytes".
    """

    kind: Literal["image_size"] = "image_size"
    reads: ClassVar[tuple[str, ...]] = ("width", "height", "image_size")

    min_side: int = Field(1, ge=1)  # of the shorter side
    max_side: int | None = Field(None, ge=1)  # of the longer side
    min_aspect: float = Field(1.0, ge=1)
    max_aspect: float | None = Field(None, ge=1)
    min_bytes: int = Field(0, ge=0)
    max_bytes: int | None = Field(None, ge=1)

    def cuts(self) -> dict[str, float]:
        return {"width": self.min_side, "height": self.min_side} if self.min_side > 1 else {}

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        width, height, size = (pairs.column(name).to_numpy() for name in ("width", "height", "image_size"))
        short, long = np.minimum(width, height), np.maximum(width, height)
        aspect = long / np.maximum(short, 1)
        reasons = [
            ("too_small", short < self.min_side),
            ("aspect", aspect < self.min_aspect),
            ("few_bytes", size < self.min_bytes),
        ]
        if self.max_side is not None:
            reasons.append(("too_large", long > self.max_side))
        if self.max_aspect is not None:
            reasons.append(("aspect", aspect > self.max_aspect))
        if self.max_bytes is not None:
            reasons.append(("many_bytes", size > self.max_bytes))
        reason = mark(reasons, pairs.num_rows)
        bad = reason.is_valid().to_numpy(zero_copy_only=False)
        detail = [f"{w}x{h}, {n} bytes" if b else None for w, h, n, b in zip(width, height, size, bad, strict=True)]
        return Verdicts(reason=reason, detail=pa.array(detail, pa.string()))
