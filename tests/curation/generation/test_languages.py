"""Codes of languages are known ones, prompts have their names, and what the model tells is named."""

import pytest
from pydantic import ValidationError

from curation.generation.languages import is_told, known_language, language_model, languages_of, model_path, name_of
from curation.stages.generate import GenerateText

BACKEND = {"kind": "openai", "url": "http://host/v1", "model": "m"}


@pytest.mark.parametrize(
    ("code", "near"),
    [
        ("german", "`de`"), ("en-US", "`en`"), ("pt_BR", "`pt`"), ("EN", "`en`"),
        ("xq", ""), ("eng", ""), ("de ", ""), ("zz", ""),
    ],
)  # fmt: skip
def test_what_is_no_code_is_refused_with_the_one_that_is_meant(code, near):
    with pytest.raises(ValidationError, match="ISO 639") as error:
        GenerateText(name="x", prompt="builtin:translate", language=code, backend=BACKEND)
    assert near in str(error.value)


def test_codes_have_names_that_differ_and_those_that_the_model_tells_are_among_them():
    model = language_model(str(model_path()))
    told = {code for text in ("a red car", "ein rotes Auto", "红色汽车") for code in languages_of(model, text, 200)}
    assert len(told) > 100 and all(is_told(code) and known_language(code) == code for code in told)
    assert len({name_of(code) for code in told}) == len(told) and name_of("de") == "German"
    assert not is_told("zu") and known_language("zu") == "zu" and name_of("zu") == "Zulu"


def test_capitals_are_read_as_small_letters():
    model, text = language_model(str(model_path())), "A RED CAR IS PARKED IN FRONT OF A HOUSE"
    chances = languages_of(model, text)
    assert chances == languages_of(model, text.lower()) and max(chances, key=chances.get) == "en"
