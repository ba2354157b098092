"""Faults that are found together are said together, each once, and survive the way between processes."""

import pickle

import pytest

from pipeline.errors import RecipeError, RecipeErrors, raise_all


def test_several_are_one_error_with_the_words_of_each():
    one, two = RecipeError("a.0", "gone", "a file", "type a=..."), RecipeError("b", "odd")
    with pytest.raises(RecipeErrors) as raised:
        raise_all([one, two, RecipeErrors(two, RecipeError("a.0", "gone", "a file", "type a=..."))])
    assert str(raised.value) == "a.0: gone; a file\nhint: type a=...\nb: odd"
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value) and again.exit_code == 2 and again.where == "a.0"


def test_one_is_itself_and_none_is_none():
    with pytest.raises(RecipeError) as raised:
        raise_all([RecipeError("a", "gone")])
    assert type(raised.value) is RecipeError
    raise_all([])
