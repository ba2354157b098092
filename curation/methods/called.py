"""A function of the recipe's author, named as module:function; a change of the module's file is another function."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field

from curation.stage import IMAGE, Measure, Stage
from curation.table.file_digests import file_digest
from pipeline.errors import RecipeError, one_line


class Called(Measure):
    """What stages share that call `function` with `params` as keyword arguments, for what `inputs` name."""

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    params: dict[str, Any] = {}
    inputs: tuple[str, ...] = Field((IMAGE,), min_length=1)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inputs

    @property
    def unit(self) -> Literal["image", "text", "pair"]:  # type: ignore[override]
        """An image or a text where nothing else is seen, so that each distinct one is measured once."""
        alone: dict[tuple[str, ...], Literal["image", "text"]] = {(IMAGE,): "image", ("captions.text",): "text"}
        return alone.get(self.inputs, "pair")

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
