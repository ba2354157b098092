"""Columns by a function of the recipe's author, over pictures, texts, or columns."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from curation.methods.called import Called, loaded
from curation.stage import Context, Function
from pipeline.errors import DataError, one_line

_TYPES = {
    "bool": pa.bool_(), "int32": pa.int32(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64(),
    "string": pa.string(),
}  # fmt: skip
Type = Literal["bool", "int32", "int64", "float32", "float64", "string"]
_REASON = "reason"


class CallFunction(Called):
    """Calls `function`, "module:function", with a list of dicts and `params` as keyword arguments. For each dict it
    returns a dict of `columns` (one that it leaves out, or None, is null), or {"reason": "a_short_reason"}, which drops
    the picture's pairs, or the caption. It must look at each dict alone: what it says of one is kept for all that are
    equal, and measured once. What it raises, and what does not fit its column, stops the run with module and row.

    inputs   what it sees. (image,): {"image": bytes}, once each distinct image. (captions.text,): {"text"}, once each
             distinct text, and the columns go to the captions. Else once each pair, by these names; captions as
             "captions", a list of dicts
    columns  name -> bool, int32, int64, float32, float64 or string
    exported names of those that go into every pair's KEY.json
    """

    kind: Literal["function"] = "function"
    batch: ClassVar[int] = 256

    columns: dict[str, Type] = Field(min_length=1)
    exported: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _named(self) -> "CallFunction":
        odd = [name for name in self.columns if not name.isidentifier() or name == _REASON]
        if odd:
            raise ValueError(f"{odd[0]!r} cannot be the name of a column")
        taken = sorted({"sha256", "page_url", "source_sha256", "stored_sha256"} & set(self.exported))
        if taken:
            raise ValueError(f"exported: {taken[0]!r} is a field of KEY.json already")
        unknown = sorted(set(self.exported) - set(self.columns))
        if unknown:
            raise ValueError(f"exported: {unknown[0]} is none of the columns")
        if self.exported and self.caption_fields:
            raise ValueError("columns of captions are not exported; leave `exported` away")
        return self

    @property
    def caption_fields(self) -> bool:  # type: ignore[override]
        return self.unit == "text"

    @property
    def adds(self) -> tuple[pa.Field, ...]:  # type: ignore[override]
        return tuple(pa.field(name, _TYPES[kind]) for name, kind in self.columns.items())

    @property
    def added_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.columns)

    @property
    def exports(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.exported

    def open(self, ctx: Context) -> Function:
        function = loaded(self.function, self.kind)

        def measure(inputs: pa.Table) -> pa.Table:
            rows = inputs.to_pylist()
            try:
                answers = function(rows, **self.params)
            except Exception as error:
                raise self._raised(function, rows, error) from error
            if not isinstance(answers, Sequence) or len(answers) != len(rows):
                number = len(answers) if isinstance(answers, Sequence) else type(answers).__name__
                raise DataError(self.function, f"gave {number} answers for {len(rows)} inputs", "expected one for each")
            return self._table(rows, list(answers))

        return measure

    def _table(self, rows: list[dict[str, Any]], answers: list[Any]) -> pa.Table:
        for row, answer in zip(rows, answers, strict=True):
            odd = sorted(set(answer) - {*self.columns, _REASON}) if isinstance(answer, dict) else ["no dict"]
            if odd:
                expected = f"expected a dict of {', '.join(self.columns)}"
                raise DataError(self.function, f"gave {odd[0]!r} for {_shown(row)}", expected)
        made = {}
        for field in (*self.adds, pa.field(_REASON, pa.string())):
            values = [answer.get(field.name) for answer in answers]
            try:
                made[field.name] = pa.array(values, field.type)
            except (pa.ArrowException, OverflowError, ValueError, TypeError):
                for row, value in zip(rows, values, strict=True):
                    _fits(value, field, self.function, row)
                raise
        return pa.table(made)

    def _raised(self, function: Any, rows: list[dict[str, Any]], error: Exception) -> DataError:
        """What to say of an exception: of which row, if it is one that fails alone."""
        for row in rows:
            try:
                function([row], **self.params)
            except Exception as alone:
                found = f"raised {type(alone).__name__}: {one_line(alone)} for {_shown(row)}"
                return DataError(self.function, found, "expected an answer; a bad input is a `reason`")
        found = f"raised {type(error).__name__}: {one_line(error)} for {len(rows)} rows, and for none of them alone"
        return DataError(self.function, found, "expected an answer that depends on each row alone")


def _fits(value: Any, field: pa.Field, where: str, row: dict[str, Any]) -> None:
    try:
        pa.array([value], field.type)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        raise DataError(where, f"gave {field.name}: {value!r} for {_shown(row)}", f"expected {field.type}") from None


def _shown(row: dict[str, Any]) -> str:
    plain = {name: f"{len(value)} bytes" if isinstance(value, bytes) else value for name, value in row.items()}
    return f"the row {plain!r:.200}"
