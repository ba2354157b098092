"""Codes of languages are known ones, prompts have their names, and what the model tells is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.generation.languages import (
    is_told,
    known_language,
    language_model,
    language_of,
    languages_of,
    model_path,
    name_of,
)
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


@given(
    st.lists(
        st.sampled_from(["red", "voiture rouge", "红色", "é", "!", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "\x1c"])
    )
)
def test_white_space_of_any_kind_and_length_is_one_space(parts):
    """As one line of the package's own `predict`, of words with one space between."""
    model, text = language_model(str(model_path())), "".join(parts)
    (label,), (score,) = model.predict(" ".join(text.split()) or "a")
    found = language_of(model, text)
    if any(each.isalpha() for each in text):
        assert found == (label.removeprefix("__label__"), pytest.approx(min(score, 1.0)))
    else:
        assert found == (None, 0.0)
