"""A function of the recipe's author: captioners, rewriters, rules, anything that can be called from Python."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from curation.generation.backends.backend import BatchBackend
from curation.generation.request import Answer, Request
from curation.methods.called import called_file, loaded
from curation.stage import IMAGE, Context
from curation.table.file_digests import file_digest

Told = list[str] | list[dict[str, Any]] | dict[str, str]


class FunctionBackend(BatchBackend):
    """Calls `function`, "module:function", plain or async, with a list of dicts and `params` as keyword arguments. For
    each dict it returns a list of texts, or of {"text", "score"}, or {"failed": "a short reason"}: counted, and the
    pair stays as it was. What it raises stops the run; what was answered by then is not asked again.

    A dict holds what it `reads` ("image": bytes; "text": the caption in question, "texts": all; columns by name), and
    where the stage has a prompt, "prompt". How many at once: curate.placement.generate.batch (by default 32).
    A change of the module's file asks again, as does another `model` or `version`.
    """

    kind: Literal["function"] = "function"
    needs_prompt: ClassVar[bool] = False

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    params: dict[str, Any] = {}
    reads: tuple[str, ...] = Field((IMAGE,), min_length=1)
    model: str = ""
    version: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.reads

    @property
    def named(self) -> str:
        return self.model

    def identity(self) -> dict[str, Any]:
        said = self.model_dump(mode="json", exclude={"reads"})
        return said | {"file": file_digest(called_file(self.function, "generate"), "generate.backend.function")}

    def file_digests(self, where: str) -> dict[str, tuple[str, str]]:
        path = called_file(self.function, where)
        return {"backend.function": (path, file_digest(path, f"{where}.function"))}

    def check(self, where: str) -> None:
        loaded(self.function, where)

    def open(self, ctx: Context) -> Callable[[Sequence[Request]], Sequence[Sequence[Answer]]]:
        function = loaded(self.function, "generate")

        def ask(requests: Sequence[Request]) -> list[list[Answer]]:
            found = function([dict(each.row) for each in requests], **self.params)
            answers = asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found
            if len(answers) != len(requests):
                raise ValueError(f"the function gave {len(answers)} answers for {len(requests)} inputs")
            return [_read(each) for each in answers]

        return ask


async def _awaited(found: Any) -> Any:
    return await found


def _read(told: Told) -> list[Answer]:
    if isinstance(told, dict):
        return [Answer(failed=str(told["failed"]))]
    return [
        Answer(each) if isinstance(each, str) else Answer(str(each["text"]), score=each.get("score")) for each in told
    ]
