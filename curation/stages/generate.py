"""Captions by a function of the recipe's author: captioners, rewriters, anything that can be called from Python."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from curation.generation import told
from curation.generation.request import Message, Request, Terms
from curation.methods.called import Called
from curation.stage import ANSWERS, Context, Function, Generate, Section

_ANSWERS = pa.schema([ANSWERS, pa.field("failed", pa.string())])
Answer = list[str] | list[dict[str, Any]] | dict[str, str]


class CallGenerator(Called, Generate):
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

    name: str = Field(min_length=1)
    source: Literal["caption", "rewrite", "negative"] = "caption"
    model: str = ""
    prompt_version: str = ""

    def provenance(self) -> dict[str, str]:
        told = {"source": f"{self.source}:{self.name}", "model": self.model, "prompt_version": self.prompt_version}
        return {key: value for key, value in told.items() if value}

    def requests(self, inputs: pa.Table, keys: Sequence[str]) -> list[list[Request]]:
        """What is asked for each row: here its columns, since there is no prompt."""
        return [[_request(row, key)] for row, key in zip(inputs.to_pylist(), keys, strict=True)]

    def terms(self) -> Terms:
        return Terms(self.model)

    def sections(self, counts: dict[str, Any], state: pa.Table | None) -> list[Section]:
        return told.sections(self.provenance(), counts)

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


def _request(row: dict[str, Any], key: str) -> Request:
    image = row.pop("image", None)
    text = "\n".join(f"{name}: {value}" for name, value in row.items())
    return Request((Message("user", text, () if image is None else (image,)),), key)


def _row(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, dict):
        return {"failed": str(answer["failed"])}
    return {"answers": [{"text": each} if isinstance(each, str) else each for each in answer]}
