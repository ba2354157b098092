"""A function of the recipe's author: captioners, rewriters, rules, anything that can be called from Python."""

import asyncio
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from curation.generation.backends.backend import BatchBackend
from curation.generation.request import Answer, Request, storable
from curation.methods.called import called_file, loaded
from curation.stage import IMAGE, Context
from curation.table.file_digests import file_digest
from pipeline.errors import RecipeError, one_line

Told = str | list[str] | list[dict[str, Any]] | dict[str, Any] | None
_IN_A_ROW = 8
"""Inputs that raise one after the other, before a run ends: then it is the function."""


class FunctionBackend(BatchBackend):
    """Calls `function`, "module:function", plain, async or a generator, with a list of dicts and `params` by keyword.
    For each dict it returns a text, a list of texts or of {"text", "score"}; None or [] where it has nothing
    to say; or {"failed": "a short reason"}: counted, and the pair stays as it was.

    A dict holds what it `reads` ("image": bytes; "text": the caption in question, "texts": all; columns by name), and
    where the stage has a prompt, "prompt". How many at once: curate.placement.generate.batch (by default 32). It must
    look at each dict alone. A change of the module's file asks again, as does another `model` or `version`.

    errors  count  where it raises, it is called with each dict alone, and those that still raise are counted, as
                   "raised_ValueError" say; 8 of them in a row, with no answer between, end the run. `ask_again` of the
                   stage gives them another try
            stop   what it raises ends the run; what was answered by then is not asked again
    """

    kind: Literal["function"] = "function"
    needs_prompt: ClassVar[bool] = False

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    params: dict[str, Any] = {}
    reads: tuple[str, ...] = Field((IMAGE,), min_length=1)
    errors: Literal["count", "stop"] = "count"
    model: str = ""
    version: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.reads

    def identity(self) -> dict[str, Any]:
        said = self.model_dump(mode="json", exclude={"reads", "errors"})
        return said | {"file": file_digest(called_file(self.function, "generate"), "generate.backend.function")}

    def file_digests(self, where: str) -> dict[str, tuple[str, str]]:
        path = called_file(self.function, where)
        return {"backend.function": (path, file_digest(path, f"{where}.function"))}

    def check(self, where: str) -> None:
        function = loaded(self.function, where)
        try:
            inspect.signature(function).bind([], **self.params)
        except TypeError as error:
            expected = "a function of a list of dicts, and of `params` by their names"
            raise RecipeError(f"{where}.params", f"{self.function}: {one_line(error)}", expected) from None
        except ValueError:
            pass  # one that is written in C does not say what it takes

    def open(self, ctx: Context) -> Callable[[Sequence[Request]], Sequence[Sequence[Answer]]]:
        return _Called(self, loaded(self.function, "generate"))


class _Called:
    """Of batches, one after the other."""

    def __init__(self, settings: FunctionBackend, function: Callable[..., Any]) -> None:
        self._settings, self._function, self._raised = settings, function, 0

    def __call__(self, requests: Sequence[Request]) -> list[list[Answer]]:
        rows = [dict(each.row) for each in requests]
        try:
            found = self._call(rows)
        except RecipeError:
            raise
        except Exception:
            if self._settings.errors == "stop":
                raise
        else:
            self._raised = 0
            return found
        return [self._alone(row) for row in rows]

    def _alone(self, row: dict[str, Any]) -> list[Answer]:
        try:
            [found] = self._call([row])
        except RecipeError:
            raise
        except Exception as error:
            self._raised += 1
            if self._raised >= _IN_A_ROW:
                raise
            return [Answer(failed=f"raised_{type(error).__name__}", passing=True)]
        self._raised = 0
        return found

    def _call(self, rows: list[dict[str, Any]]) -> list[list[Answer]]:
        """RecipeError where it does not return what it is to return."""
        found = self._function([dict(row) for row in rows], **self._settings.params)
        if inspect.isawaitable(found) or inspect.isasyncgen(found):
            found = asyncio.run(_awaited(found))
        if isinstance(found, (str, bytes, dict)) or not isinstance(found, Iterable):
            raise self._fault(f"returned {_shown(found)}")
        answers = list(found)
        if len(answers) != len(rows):
            raise self._fault(f"gave {len(answers)} answers for {len(rows)} inputs")
        return [self._read(each) for each in answers]

    def _read(self, told: Told) -> list[Answer]:
        if isinstance(told, dict) and "failed" in told:
            return [Answer(failed=storable(str(told["failed"])) or "failed")]
        items = [] if told is None else [told] if isinstance(told, (str, dict)) else told
        if not isinstance(items, (list, tuple)):
            raise self._fault(f"said {_shown(told)} of an input")
        return [self._answer(each) for each in items]

    def _answer(self, item: Any) -> Answer:
        text, score = (item.get("text"), item.get("score")) if isinstance(item, dict) else (item, None)
        is_score = score is None or (isinstance(score, (int, float, np.number)) and math.isfinite(score))
        if not isinstance(text, str) or not is_score:
            raise self._fault(f"said {_shown(item)} of an input")
        return Answer(storable(text), score=None if score is None else float(score))

    def _fault(self, found: str) -> RecipeError:
        expected = 'for each input a text, a list of texts or of {"text", "score"}, None, or {"failed": "why"}'
        hint = "a list of one entry for each dict that the function is given, in their order"
        return RecipeError("generate.backend.function", f"{self._settings.function} {found}", expected, hint)


async def _awaited(found: Any) -> Any:
    return [each async for each in found] if inspect.isasyncgen(found) else await found


def _shown(value: Any) -> str:
    return f"{one_line(repr(value), 60)} ({type(value).__name__})"
