"""A function of the recipe's author, named as module:function; a change of the module's file is another function."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field

from curation.stage import IMAGE, Measure, Stage
from curation.table.arrow import with_pandas
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
        loaded(self.function, where)

    def file_digests(self) -> dict[str, tuple[str, str]]:
        path = called_file(self.function, self.kind)
        return {"function": (path, file_digest(path, f"{self.kind}.function"))}

    def identity(self) -> dict[str, Any]:
        return super().identity() | {"called": self.function}  # a file may have several


def called_file(function: str, where: str) -> str:
    """The path of the module of "module:function"."""
    module = function.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise _fault(function, where, one_line(error)) from None
    if found is None or not found.origin:
        raise _fault(function, where, f"no module {module!r}")
    return found.origin


def loaded(function: str, where: str) -> Callable[..., Any]:
    """What "module:function" names."""
    called_file(function, where)
    with_pandas()
    module, _, name = function.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a stranger's module does
        raise _fault(function, where, one_line(error)) from None
    if not callable(found):
        raise _fault(function, where, f"{name} is a {type(found).__name__}")
    return found


def _fault(function: str, where: str, found: str) -> RecipeError:
    expected = "expected module:function that Python can import here"
    hint = "put the module's folder on PYTHONPATH, on every node"
    return RecipeError(f"{where}.function", f"{function}: {found}", expected, hint)
