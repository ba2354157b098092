"""Texts share a phrase when they share a run of words, whatever signs and case."""

from hypothesis import given
from hypothesis import strategies as st

from curation.methods.references.phrases import phrases, words

WORDS = st.lists(st.sampled_from("abcd"), max_size=9)


@given(WORDS, WORDS, st.integers(1, 4))
def test_texts_share_a_phrase_exactly_when_one_run_stands_in_both(left, right, n):
    spans = [right[at : at + n] for at in range(len(right) - n + 1)]
    wanted = any(left[at : at + n] in spans for at in range(len(left) - n + 1))
    assert bool(set(phrases(" ".join(left), n, n)) & set(phrases(" ".join(right), n, n))) == wanted


def test_signs_case_and_forms_of_letters_are_no_matter():
    assert words("A RED-car, \uff11 Straße!") == ["a", "red", "car", "1", "strasse"]
    assert words("赤い車 ok") == ["赤", "い", "車", "ok"]


def test_a_short_text_is_one_phrase_and_a_shorter_one_none():
    assert phrases("one two three", 5, 3) == ["one two three"] and phrases("one two", 5, 3) == []
