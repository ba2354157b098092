"""Numbers, or words, of pairs or of their captions, by the name of a column: what is held against bounds and values."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationInfo, field_validator

from curation.stage import Picks, Scores, Stage, Verdicts
from curation.table import schemas
from curation.table.arrow import whole
from curation.table.captions import ROW, explode
from pipeline.contract.pairs import is_synthetic
from pipeline.errors import RecipeError

CAPTIONS = "captions."
EXTRA = "extra."
"""A field of the input that clipmill does not know: `extra.similarity` of a LAION table."""


_LARGEST = sys.float_info.max


class OfColumn(Stage):
    """What stages share that decide by a column of numbers."""

    column: str = Field(
        min_length=1, description="of pairs; captions.NAME of their captions; extra.NAME a field of the input"
    )

    sources: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="of a column of the captions: those of these sources alone are judged (`caption:recap`, `rewrite`, "
        "`synthetic`: what models wrote, `original`), the others stay; default: all",
    )

    @field_validator("sources")
    @classmethod
    def _of_captions(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        if value is not None and not str(info.data.get("column", "")).startswith(CAPTIONS):
            raise ValueError(f"expected a column of the captions beside it, such as {CAPTIONS}score")
        return value

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.column.startswith(EXTRA):
            return ("extra",)
        return (self.column,) if self.sources is None else (self.column, f"{CAPTIONS}source")

    def identity(self) -> dict[str, Any]:
        plain = super().identity()
        return plain if self.sources is not None else {name: plain[name] for name in plain if name != "sources"}

    def numbers_of(self, pairs: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(values, spared) one a pair or one a caption; spared: bool, what stays whatever its value, which is NaN."""
        values = numbers(pairs, self.column)
        if self.sources is None:
            return values, np.zeros(len(values), bool)
        of = whole(explode(pairs).column("source")).dictionary_encode()
        wanted = [any(name in self.sources for name in names_of(each)) for each in of.dictionary.to_pylist()]
        judged = np.array(wanted, bool)[of.indices.to_numpy(zero_copy_only=False)] if len(of) else np.zeros(0, bool)
        return np.where(judged, values, np.nan), ~judged

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        check_number(self.column, where, before)

    def cut_at(self, state: pa.Table | None) -> tuple[float, ...]:
        """The values at which this stage cuts."""
        return ()

    def judged(self, pairs: pa.Table, state: pa.Table | None) -> "Judged":
        """What it decided by, one by one."""
        raise NotImplementedError

    def shown(self, pairs: pa.Table, verdicts: Verdicts, state: pa.Table | None) -> list[Scores | Picks]:
        """The histogram, and who is nearest to each cut on both sides."""
        judged, cuts = self.judged(pairs, state), self.cut_at(state)
        values = judged.values
        of: Literal["pairs", "captions"] = "pairs" if judged.texts is None else "captions"
        shown: list[Scores | Picks] = [Scores(self.column, values, judged.kept, cuts, of)]
        for number, cut in enumerate(cuts):
            for place, (word, side) in enumerate((("just below", values < cut), ("at or above", values >= cut))):
                at = np.flatnonzero(side & np.isfinite(values))
                title = f"{self.column} {word} {cut:.4g}"
                texts = None if judged.texts is None else judged.texts.take(pa.array(at))
                order, kept = np.abs(values[at] - cut), judged.kept[at]
                shown.append(
                    Picks(title, judged.rows[at], order, values[at], self.column, texts, kept, 2 * number + place)
                )
        return shown


def names_of(source: str) -> tuple[str, str, str]:
    """What speaks for a source: itself, what stands before its colon, and whether a model wrote it."""
    return source, source.partition(":")[0], "synthetic" if is_synthetic(source) else "original"


class Judged(NamedTuple):
    """values: float64; rows: int64, the pair of each; kept: bool; texts: the caption of each, where captions are
    judged and not pairs."""

    values: np.ndarray
    rows: np.ndarray
    kept: np.ndarray
    texts: pa.Array | None = None


def judged_by(pairs: pa.Table, values: np.ndarray, kept: np.ndarray, by_caption: bool) -> Judged:
    """`values` and `kept` one a pair, or one a caption in the order of captions.explode."""
    if not by_caption:
        return Judged(values, np.arange(pairs.num_rows), kept)
    flat = explode(pairs)
    return Judged(values, flat.column(ROW).to_numpy(), kept, whole(flat.column("text")))


def check_number(column: str, where: str, before: Sequence[Stage]) -> None:
    """RecipeError when the column, of PAIRS or added by a stage `before`, is known to hold no numbers."""
    kind = _type_of(column, before)
    if kind is not None and not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise RecipeError(f"{where}.column", f"`{column}` holds {kind}", "expected a column of numbers")


def check_words(column: str, where: str, before: Sequence[Stage]) -> None:
    """RecipeError when the column is known to hold no words, whole numbers, or true and false."""
    kind = _type_of(column, before)
    if kind is not None and not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise RecipeError(f"{where}.column", f"`{column}` holds {kind}", "expected a column of words or whole numbers")


def _type_of(column: str, before: Sequence[Stage]) -> pa.DataType | None:
    """None where nothing is known of it."""
    fields = {f.name: f.type for f in schemas.PAIRS} | {CAPTIONS + f.name: f.type for f in schemas.CAPTION_FIELDS}
    for stage in before:
        fields |= {(CAPTIONS if stage.caption_fields else "") + f.name: f.type for f in stage.adds}
    return fields.get(column)


def numbers(pairs: pa.Table, column: str) -> np.ndarray:
    """float64, one a pair, or one a caption (in the order of captions.explode); NaN where there is none."""
    if column.startswith(EXTRA):
        return _extra_numbers(whole(pairs.column("extra")), column.removeprefix(EXTRA))
    of = explode(pairs) if column.startswith(CAPTIONS) else pairs
    values = whole(of.column(column.removeprefix(CAPTIONS)))
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    # To the nearest where a float has fewer digits than the number: a hash of 64 bits, say.
    return values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)


def _extra_numbers(extra: pa.Array, name: str) -> np.ndarray:
    """NaN where there is no such field, or no number in it. A text is no number."""
    found = np.full(len(extra), np.nan)
    for row, value in _extra_values(extra, name):
        if isinstance(value, (bool, int, float)):
            found[row] = value if abs(value) < _LARGEST else np.nan
    return found


def _extra_values(extra: pa.Array, name: str) -> Iterator[tuple[int, Any]]:
    """(row, value) of the JSON objects in `extra` that have such a field."""
    is_plain = json.dumps(name) == f'"{name}"'  # written in one way alone
    may_have = pc.match_substring(extra, name) if is_plain else pc.not_equal(extra, "")
    for row in np.flatnonzero(may_have.fill_null(False).to_numpy(zero_copy_only=False)).tolist():
        try:
            yield row, json.loads(extra[row].as_py()).get(name)
        except (ValueError, AttributeError):
            continue


def words(pairs: pa.Table, column: str) -> pa.Array:
    """string, one a pair, or one a caption (in the order of captions.explode); null where there is none. Whole numbers
    as digits, true and false as these words; other numbers are none."""
    if column.startswith(EXTRA):
        extra = whole(pairs.column("extra"))
        found: list[str | None] = [None] * len(extra)
        for row, value in _extra_values(extra, column.removeprefix(EXTRA)):
            if isinstance(value, (str, bool, int)):
                found[row] = value if isinstance(value, str) else json.dumps(value)
        return pa.array(found, pa.string())
    of = explode(pairs) if column.startswith(CAPTIONS) else pairs
    return whole(of.column(column.removeprefix(CAPTIONS))).cast(pa.string())


def best_of_each(values: np.ndarray, rows: np.ndarray, num: int) -> np.ndarray:
    """float64 [pair]: the greatest value of each pair's captions, NaN where none has one."""
    found = np.full(num, -np.inf)
    there = ~np.isnan(values)
    np.maximum.at(found, rows[there], values[there])
    return np.where(np.isin(np.arange(num), rows[there]), found, np.nan)
