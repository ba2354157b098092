"""A part of the whole set by chance: exactly so many pairs."""

from fractions import Fraction
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curation.methods.first_of_each import FirstOfEach
from curation.methods.selection import bits_of
from curation.stage import Context
from pipeline.draws import keyed_uniforms


class Sample(FirstOfEach):
    """Keeps the `fraction` (rounded down) or the number `keep` of pairs with the smallest keyed draws (seed, uid), ties
    by uid: all sets are as likely, and a larger one only adds.

    Reason: not_sampled.
    """

    kind: Literal["sample"] = "sample"
    reason: ClassVar[str] = "not_sampled"
    after_first: ClassVar[tuple[str, ...]] = ("fraction", "keep")

    fraction: float | None = Field(None, gt=0, le=1)
    keep: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_aim(self) -> "Sample":
        if (self.fraction is None) == (self.keep is None):
            raise ValueError("give either fraction or keep")
        return self

    def tally(self, pairs: pa.Table, ctx: Context) -> pa.Table:
        return pa.table({"size": pa.array([pairs.num_rows], pa.int64())})

    def merge_tallies(self, partials: list[pa.Table]) -> pa.Table:
        return pa.table({"size": pa.array([sum(each["size"][0].as_py() for each in partials)], pa.int64())})

    def quotas(self, tally: pa.Table) -> pa.Table:
        size = tally["size"][0].as_py()
        wanted = self.keep or int(Fraction(str(self.fraction)) * size)
        return pa.table([[0], [wanted], [size]], names=["group", "wanted", "size"])

    def ranked(self, pairs: pa.Table, state: pa.Table, ctx: Context) -> tuple[np.ndarray, np.ndarray]:
        draws = keyed_uniforms(ctx.seed, self.kind, pairs.column("uid").to_pylist())
        return np.zeros(pairs.num_rows, np.int64), bits_of(draws)
