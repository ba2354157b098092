"""Keeps what has one of some values in a column of words: a language, a licence, a host's tag."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.methods.reasons import mark, sift
from curation.methods.scores import CAPTIONS, EXTRA, check_words, words
from curation.stage import Context, Rule, Stage, Verdicts
from curation.table.captions import explode


class OneOf(Rule):
    """Keeps what has one of `values`, or with `except_for` what has none of them. Of a column of the captions
    (captions.detected) captions go, a pair with its last. Words are compared as they stand; whole numbers and true or
    false as they are written.

    no_value  what has no word there: drop or keep

    Reasons: other, no_value; detail: the column, and the value that was found.
    """

    kind: Literal["one_of"] = "one_of"

    column: str = Field(min_length=1, description="of pairs; captions.NAME of their captions; extra.NAME of the input")
    values: tuple[str, ...] = Field(min_length=1)
    except_for: bool = False
    no_value: Literal["drop", "keep"] = "drop"

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("extra",) if self.column.startswith(EXTRA) else (self.column,)

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        check_words(self.column, where, before)

    def judge(self, pairs: pa.Table, ctx: Context) -> Verdicts:
        said = words(pairs, self.column)
        listed = pc.is_in(said, pa.array(self.values, pa.string())).to_numpy(zero_copy_only=False)
        none = said.is_null().to_numpy(zero_copy_only=False)
        other = ~none & (listed if self.except_for else ~listed)
        missing = none & (self.no_value == "drop")
        reasons = mark([("no_value", missing), ("other", other)], len(said))
        found = pc.binary_join_element_wise(self.column, pc.fill_null(said, ""), ": ")
        details = pc.if_else(pa.array(np.asarray(none)), self.column, found)
        if self.column.startswith(CAPTIONS):
            return sift(explode(pairs), reasons, pairs.num_rows, details)
        return Verdicts(reason=reasons, detail=pc.if_else(reasons.is_valid(), details, pa.scalar(None, pa.string())))
