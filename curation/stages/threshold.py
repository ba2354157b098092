"""Bounds on any column of numbers."""

from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from curation.methods.reasons import mark, sift
from curation.methods.scores import CAPTIONS, Judged, OfColumn, judged_by
from curation.stage import Context, Rule, Verdicts
from curation.table.captions import explode


class Threshold(OfColumn, Rule):
    """Keeps what lies in [min, max]. Of a column of the captions (captions.score) captions go, a pair with its last;
    with `sources`, those of these sources alone.

    no_value  what has no number (null or NaN): drop or keep

    Reasons: below, above, no_value; detail: the column.
    """

    kind: Literal["threshold"] = "threshold"

    min: float | None = None
    max: float | None = None
    no_value: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _bounds(self) -> "Threshold":
        if self.min is None and self.max is None:
            raise ValueError("give min, max, or both")
        return self

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        reasons = self._reasons(*self.numbers_of(pairs))
        details = pa.array([self.column] * len(reasons), pa.string())
        if self.column.startswith(CAPTIONS):
            return sift(explode(pairs), reasons, pairs.num_rows, details)
        return Verdicts(reason=reasons, detail=details)

    def _reasons(self, values: np.ndarray, spared: np.ndarray) -> pa.Array:
        low, high = (np.inf * sign if bound is None else bound for bound, sign in ((self.min, -1), (self.max, 1)))
        missing = np.isnan(values) & ~spared & (self.no_value == "drop")
        return mark([("no_value", missing), ("below", values < low), ("above", values > high)], len(values))

    def cut_at(self, state: pa.Table | None) -> tuple[float, ...]:
        return tuple(bound for bound in (self.min, self.max) if bound is not None)

    def judged(self, pairs: pa.Table, state: pa.Table | None) -> Judged:
        values, spared = self.numbers_of(pairs)
        kept = self._reasons(values, spared).is_null().to_numpy(False)
        return judged_by(pairs, values, kept, self.column.startswith(CAPTIONS))
