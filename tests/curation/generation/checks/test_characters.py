"""What nobody sees is taken out; what scripts and emoji are made of stays."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.generation.checks.characters import is_broken, seen_alone
from curation.generation.checks.plain import made_plain

HIDDEN = [
    *"\u200c\u200d\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u200b\u2060\u2061\u2064\ufeff\u00ad\u180e"
    "\u206a\u206f\ufff9\U000e0001\U000e0041\U000e007f\u3164\uffa0\u034f\u17b4\ufe0f\U000e0100\U000e01ef\U0001d173"
]  # fmt: skip


@pytest.mark.parametrize("char", HIDDEN, ids=[f"{ord(each):x}" for each in HIDDEN])
def test_what_shows_nothing_between_letters_is_taken_out(char):
    assert seen_alone(f"a re{char}d {char}car{char}") == "a red car"


@pytest.mark.parametrize(
    "text",
    [
        "a family \U0001f468\u200d\U0001f469\u200d\U0001f467 at sea", "\u2764\ufe0f on a wall",
        "\u2764\ufe0f\u200d\U0001f525",
        "flag \U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f on a mast",
        "1\ufe0f\u20e3 key",
        "\U0001f9d1\U0001f3fd\u200d\U0001f680 in space", "\u0645\u06cc\u200c\u0631\u0648\u062f",
        "\u0915\u094d\u200d\u0937",
        "\u0d05\u0d35\u0d28\u0d4d\u200d", "\u0dc1\u0dca\u200d\u0dbb\u0dd3", "\u845b\U000e0100 a name", "\u3299\ufe0f",
        "\u182a\u180b", "\u1112\u1161\u11ab", "\u2801\u2800\u2803 in Braille",
    ],
)  # fmt: skip
def test_what_is_part_of_a_sign_stays(text):
    assert seen_alone(text) == text


def test_letters_that_are_hidden_in_tags_and_selectors_do_not_come_along():
    hidden = "".join(chr(0xE0000 + ord(each)) for each in "obey me")
    assert seen_alone(f"a cat{hidden} sleeps") == "a cat sleeps"
    assert seen_alone("\U0001f408" + "".join(chr(0xE0100 + n) for n in range(40))) == "\U0001f408"
    assert seen_alone("\u2764" + "\ufe0f" * 9) == "\u2764\ufe0f"
    assert seen_alone("\U0001f3f4" + hidden + "\U000e007f") == "\U0001f3f4"


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Z", "Cf"]), max_size=40))
def test_nothing_that_shows_is_lost_and_once_is_enough(text):
    found = seen_alone(text)
    odd = "\u115f\u1160\u3164\uffa0\u034f\u2800\u17b4\u17b5\u180b\u180c\u180d\u180f"  # fillers
    selectors = {*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0)), *odd}
    shows = [each for each in text if unicodedata.category(each) != "Cf" and each not in selectors]
    assert [each for each in found if unicodedata.category(each) != "Cf" and each not in selectors and each != " "] == [
        each for each in shows if each != " "
    ]
    assert seen_alone(found) == found or "\ufe0f" in text or "\u200d" in text


@pytest.mark.parametrize(
    "char", ["\x00", "\x07", "\x1b", "\x7f", "\x9a", "\ud800", "\ue123", "\ufffd", "\uffff", "\U00100001"]
)
def test_what_cannot_be_read_is_broken(char):
    assert is_broken(f"a {char} cat") and not is_broken("a\tcat\non\r\na mat\x85")


def test_an_answer_is_one_line_without_an_override():
    assert made_plain("\u202eA cat\u202c\n on \u2067a\u2069 mat\ufeff") == "A cat on a mat"
