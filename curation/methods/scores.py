"""Numbers of pairs or of their captions, by the name of a column: what thresholds and fractions are taken of."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.stage import Stage
from curation.table import schemas
from curation.table.arrow import whole
from curation.table.captions import explode
from pipeline.errors import RecipeError

CAPTIONS = "captions."


class OfColumn(Stage):
    """What stages share that decide by a column of numbers."""

    column: str = Field(min_length=1)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.column,)

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        check_number(self.column, where, before)


def check_number(column: str, where: str, before: Sequence[Stage]) -> None:
    """RecipeError when the column, of PAIRS or added by a stage `before`, is known to hold no numbers."""
    fields = {f.name: f.type for f in schemas.PAIRS} | {CAPTIONS + f.name: f.type for f in schemas.CAPTION_FIELDS}
    for stage in before:
        fields |= {(CAPTIONS if stage.caption_fields else "") + f.name: f.type for f in stage.adds}
    kind = fields.get(column)
    if kind is not None and not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise RecipeError(f"{where}.column", f"`{column}` holds {kind}", "expected a column of numbers")


def numbers(pairs: pa.Table, column: str) -> np.ndarray:
    """float64, one a pair, or one a caption (in the order of captions.explode); NaN where there is none."""
    of = explode(pairs) if column.startswith(CAPTIONS) else pairs
    values = whole(of.column(column.removeprefix(CAPTIONS)))
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)


def best_of_each(values: np.ndarray, rows: np.ndarray, num: int) -> np.ndarray:
    """float64 [pair]: the greatest value of each pair's captions, NaN where none has one."""
    found = np.full(num, -np.inf)
    there = ~np.isnan(values)
    np.maximum.at(found, rows[there], values[there])
    return np.where(np.isin(np.arange(num), rows[there]), found, np.nan)
