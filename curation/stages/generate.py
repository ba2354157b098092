"""Captions by a function of the recipe's author: captioners, rewriters, anything that can be called from Python."""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from curation.stage import ANSWERS, IMAGE, Context, Function, Generate, Stage
from curation.table.file_digests import file_digest
from pipeline.errors import RecipeError, one_line

_ANSWERS = pa.schema([ANSWERS, pa.field("failed", pa.string())])
Answer = list[str] | list[dict[str, Any]] | dict[str, str]


class CallGenerator(Generate):
    """Calls `function`, "module:function", plain or async, with a list of dicts and `params` as keyword arguments. For
    each dict it returns a list of texts, or of {"text", "score"}, or {"failed": "a short reason"}: counted, and the
    pair stays as it was. What it raises stops the run; what was answered by then is not asked again.

    inputs   what it sees. (image,): {"image": bytes}, once each distinct image. (captions.text,): {"text"}, once each
             distinct text. Else once each pair, by these names; captions as "captions", a list of dicts
    source, name    captions come as "caption:<name>" or "rewrite:<name>"
    model, prompt_version    go with each caption; another one asks again, as does a change of the module's file

    How many dicts at once: curate.placement.generate.batch (by default 32).
    """

    kind: Literal["generate"] = "generate"

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    name: str = Field(min_length=1)
    inputs: tuple[str, ...] = Field((IMAGE,), min_length=1)
    source: Literal["caption", "rewrite"] = "caption"
    model: str = ""
    prompt_version: str = ""
    params: dict[str, Any] = {}

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inputs

    @property
    def unit(self) -> Literal["image", "text", "pair"]:  # type: ignore[override]
        alone: dict[tuple[str, ...], Literal["image", "text"]] = {(IMAGE,): "image", ("captions.text",): "text"}
        return alone.get(self.inputs, "pair")

    def provenance(self) -> dict[str, str]:
        told = {"source": f"{self.source}:{self.name}", "model": self.model, "prompt_version": self.prompt_version}
        return {key: value for key, value in told.items() if value}

    def check(self, where: str, before: Sequence[Stage] = ()) -> None:
        self._loaded(where)

    def file_digests(self) -> dict[str, tuple[str, str]]:
        path = self._source_file(self.kind)
        return {"function": (path, file_digest(path, f"{self.kind}.function"))}

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"called": self.function}  # a file may have several

    def _source_file(self, where: str) -> str:
        module = self.function.partition(":")[0]
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError) as error:
            raise self._fault(where, one_line(error)) from None
        if found is None or not found.origin:
            raise self._fault(where, f"no module {module!r}")
        return found.origin

    def _loaded(self, where: str) -> Callable[..., Any]:
        self._source_file(where)
        module, _, name = self.function.partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:  # whatever a stranger's module does
            raise self._fault(where, one_line(error)) from None
        if not callable(found):
            raise self._fault(where, f"{name} is a {type(found).__name__}")
        return found

    def _fault(self, where: str, found: str) -> RecipeError:
        expected = "expected module:function that Python can import here"
        hint = "put the module's folder on PYTHONPATH, on every node"
        return RecipeError(f"{where}.function", f"{self.function}: {found}", expected, hint)

    def open(self, ctx: Context) -> Function:
        function = self._loaded(self.kind)

        def measure(inputs: pa.Table) -> Any:
            rows = inputs.to_pylist()
            answers = function(rows, **self.params)
            return _awaited(answers, len(rows)) if inspect.isawaitable(answers) else _table(answers, len(rows))

        return measure


async def _awaited(answers: Any, num: int) -> pa.Table:
    return _table(await answers, num)


def _table(answers: Sequence[Answer], num: int) -> pa.Table:
    if len(answers) != num:
        raise ValueError(f"the function gave {len(answers)} answers for {num} inputs")
    return pa.Table.from_pylist([_row(each) for each in answers], schema=_ANSWERS)


def _row(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, dict):
        return {"failed": str(answer["failed"])}
    return {"answers": [{"text": each} if isinstance(each, str) else each for each in answer]}
