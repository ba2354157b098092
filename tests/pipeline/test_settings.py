"""Values that no setting can hold are refused with their place, whatever the setting."""

import pytest
from pydantic import ValidationError

from pipeline.settings import Settings


class Some(Settings):
    number: int | None = None
    numbers: dict[str, int] = {}
    words: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"number": 2**70}, "number"), ({"number": -(2**63)}, "number"), ({"numbers": {"a": 1, "b": 2**63}}, "numbers"),
        ({"words": ["fine", "half \ud800"]}, "words"), ({"numbers": {"\udfff": 1}}, "numbers"),
    ],
)  # fmt: skip
def test_whole_numbers_over_64_bits_and_texts_without_bytes_are_refused(given, where):
    with pytest.raises(ValidationError) as refused:
        Some(**given)
    [fault] = refused.value.errors()
    assert fault["loc"] == (where,) and "expected" in fault["msg"]


def test_all_others_are_taken():
    assert Some(number=2**62, numbers={"😀": -1}, words=["naïve"]).number == 2**62
