"""Texts by templates: labels, tags, entities and attributes put into sentences, without a model."""

import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from curation.generation.backends.backend import BatchBackend
from curation.generation.request import Answer, Request, storable
from curation.stage import IMAGE, Context


class TemplateBackend(BatchBackend):
    """Fills in every one of `texts`, "a photo of {label}", as class prompts are (Radford et al., 2021): a bag of texts
    of which training draws. What stands in braces is `text`, `texts` or a column; underscores become spaces, a list is
    joined by commas. A text that lacks one of its columns is left out.
    """

    kind: Literal["template"] = "template"
    needs_prompt: ClassVar[bool] = False

    texts: tuple[str, ...] = Field(min_length=1)
    model: str = "templates"

    @field_validator("texts")
    @classmethod
    def _can_be_filled(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                names = list(_names_in(text))
            except ValueError as error:
                raise ValueError(f"{text!r}: {error}; expected columns in braces, {{{{ and }}}} for braces") from None
            wrong = [each for each in names if not each.isidentifier() or each == IMAGE]
            if wrong or not names:
                found = f"{{{wrong[0]}}} is no column of words" if wrong else "names no column"
                raise ValueError(f"{text!r} {found}; expected such as 'a photo of {{label}}'")
        return value

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(sorted({name for text in self.texts for name in _names_in(text)}))

    def identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"model"})

    def open(self, ctx: Context) -> Callable[[Sequence[Request]], Sequence[Sequence[Answer]]]:
        def ask(requests: Sequence[Request]) -> list[list[Answer]]:
            return [list(self._filled(request.row)) for request in requests]

        return ask

    def _filled(self, row: Any) -> Iterator[Answer]:
        said = {name: _words(row.get(name)) for name in self.inputs}
        for text in self.texts:
            if all(said[name] for name in _names_in(text)):
                yield Answer(storable(text.format_map(said)))


def _names_in(text: str) -> Iterator[str]:
    for _, name, form, conversion in string.Formatter().parse(text):
        if form or conversion:
            raise ValueError("a format behind a name")
        if name is not None:
            yield name


def _words(value: Any) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else "" if value is None else str(value)
    return " ".join(words.replace("_", " ").split())
