"""Numbers of texts, counted by hand, in any script."""

import pytest

from curation.stages.text_statistics import TextStatistics
from curation.table import captions
from tests.helpers.pairs import measured, pair, pairs_of


def of(text: str) -> tuple:
    (row,) = captions.explode(measured(TextStatistics(), pairs_of(pair("a", text)))).to_pylist()
    names = ("words", "characters", "letters", "digits", "repetition")
    return tuple(None if row[name] is None else pytest.approx(row[name], abs=1e-6) for name in names)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", (0, 0, None, None, None)),
        ("  \n", (0, 3, None, None, None)),
        ("a red dog", (3, 9, 1, 0, 0)),
        ("Buy buy BUY now", (4, 15, 1, 0, 0.5)),
        ("IMG_2041.jpg", (1, 12, 6 / 12, 4 / 12, 0)),
        ("一只黑色的狗", (1, 6, 1, 0, 0)),
        ("हिन्दी", (1, 6, 1, 0, 0)),  # vowel signs and a virama are marks
        ("٣٤", (1, 2, 0, 1, 0)),  # digits of another script
        ("e\u0301", (1, 2, 1, 0, 0)),
        ("!!! ???", (2, 7, 0, 0, 0)),
        ("😀", (1, 1, 0, 0, 0)),
    ],
)
def test_numbers_are_those_counted_by_hand(text, wanted):
    assert of(text) == wanted


def test_what_repeats_is_pressed_smaller_with_and_without_spaces():
    texts = ["黑色的狗" * 30, "a red dog " * 20, "the quick brown fox jumps over a lazy dog by the river"]
    flat = captions.explode(measured(TextStatistics(), pairs_of(pair("a", *texts, ""))))
    found = dict(zip(flat["text"].to_pylist(), flat["compression"].to_pylist(), strict=True))
    assert found[texts[0]] < 0.2 and found[texts[1]] < 0.2 and found[texts[2]] > 0.8 and found[""] is None
