"""The matcher equals a naive one written from the rule, in both modes, on every tricky text of the rule."""

import json
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.methods.concepts.matcher import (
    ConceptMatcher,
    can_match,
    entries_digest,
    entry_counts,
    read_entries,
    word_form,
)
from pipeline.errors import RecipeError
from tests.helpers.lanes import examples

# text, entry, does it match by the published rule, does it match by words
GOLDEN = [
    ("a dog barks", "dog", True, True),
    ("dog", "dog", True, True),
    ("St. Louis", "St. Louis", False, True),
    ("U.S.", "U.S.", False, True),
    ("the U.S. flag", "U.S.", False, True),
    ("ice cream", "ice cream", True, True),
    ("ice  cream", "ice cream", False, True),
    ("ice, cream", "ice cream", False, True),
    ("ice\u00a0cream", "ice cream", False, True),
    ("ice\ncream", "ice cream", True, True),
    ("ice\r\ncream", "ice cream", False, True),
    ("ice\tcream", "ice cream", True, True),
    ("(dog)", "dog", False, True),
    ("dog's", "dog", False, True),
    ("dog/cat", "dog", False, True),
    ("Dog", "dog", False, True),
    ("dog", "Dog", False, True),
    ("DOG!", "dog", False, True),
    ("dog!", "dog", True, True),
    ("`dog`", "dog", True, True),
    ("a dog.", "dog", True, True),
    ("dog,cat", "cat", True, True),
    ("dogs", "dog", False, False),
    ("hotdog", "dog", False, False),
    ("t-shirt!", "t-shirt", True, True),
    ("T Shirt", "t-shirt", False, True),
    ("tshirt", "t-shirt", False, False),
    ("hot_dog", "hot dog", False, True),
    (".", ".", True, False),
    ("wait... what", ".", True, False),
    ("a, b", "a , b", False, True),
    ("a,b", "a , b", True, True),
    ("café", "café", True, True),
    ("cafe\u0301", "café", False, True),
    ("Straße", "strasse", False, True),
    ("ｄｏｇ", "dog", False, True),
    ("黒猫です", "猫", False, True),
    ("स्त्री", "स", False, False),
    ("", "", False, False),
    ("new york city", "york", True, True),
    ("don't", "don't", True, True),
]


def naive_metaclip(entries: list[str], text: str) -> list[int]:
    text = f" {text} "
    text = re.sub(r"([,.;:?!`])", r" \1 ", text)
    text = re.sub(r"[\t\n\r]", " ", text)
    return [i for i, entry in enumerate(entries) if f" {entry} " in text]


def words_of(text: str) -> list[str]:
    words, current = [], ""
    for character in unicodedata.normalize("NFKC", text).casefold():
        if "CJK UNIFIED" in unicodedata.name(character, "") or "HIRAGANA" in unicodedata.name(character, ""):
            words += [current, character]
            current = ""
        elif unicodedata.category(character)[0] in "LM" or character.isalnum():
            current += character
        else:
            words, current = [*words, current], ""
    return [word for word in [*words, current] if word]


def naive_word(entries: list[str], text: str) -> list[int]:
    words, seen, found = words_of(text), set(), []
    for i, entry in enumerate(entries):
        wanted = words_of(entry)
        if not wanted or tuple(wanted) in seen:
            continue
        seen.add(tuple(wanted))
        if any(words[at : at + len(wanted)] == wanted for at in range(len(words))):
            found.append(i)
    return found


@pytest.mark.parametrize(("text", "entry", "published", "by_word"), [row for row in GOLDEN if row[1]])
def test_every_consequence_of_the_rule(text, entry, published, by_word):
    assert ConceptMatcher([entry], "metaclip").match(text) == ([0] if published else [])
    assert ConceptMatcher([entry], "word").match(text) == ([0] if by_word else [])
    assert naive_metaclip([entry], text) == ([0] if published else [])
    assert naive_word([entry], text) == ([0] if by_word else [])


def test_overlapping_and_nested_matches_count_once_each():
    entries = ["new york", "york city", "new york city", "york", "city", "new"]
    for mode in ("metaclip", "word"):
        assert ConceptMatcher(entries, mode).match("new york city new york") == [0, 1, 2, 3, 4, 5]


PIECES = [
    "dog",
    "Dog",
    "ice",
    "cream",
    "ice cream",
    "t-shirt",
    "a",
    "b",
    ".",
    ",",
    "!",
    "`",
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "\0",
    "\u00a0",
    "_",
    "-",
    "'",
    "(",
    ")",
    "é",
    "猫",
    "0",
    "ß",
    ";",
    ":",
    "?",
]
texts = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
entry_lists = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), min_size=1, max_size=8)


@given(entry_lists, texts)
@examples(400)
@example(["a , b", ". .", ".  .", "a  ."], "a,b .. a .")
def test_the_published_rule_holds_on_any_text(entries, text):
    unique = list(dict.fromkeys(entries))
    assert ConceptMatcher(unique, "metaclip").match(text) == naive_metaclip(unique, text)


@given(entry_lists, texts)
@examples(400)
def test_the_word_rule_holds_on_any_text(entries, text):
    assert ConceptMatcher(entries, "word").match(text) == naive_word(entries, text)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join))
@examples(400)
@example(". .")
@example(".  .")
@example("a . b")
@example("a.b")
@example("a\tb")
def test_an_entry_can_match_exactly_when_some_text_matches_it(entry):
    # The text most likely to match: the spaces that the rule puts around the seven characters, left out.
    witness = re.sub(r" ?([,.;:?!`]) ?", r"\1", entry)
    assert can_match(entry, "metaclip") == bool(naive_metaclip([entry], witness))


def test_unreachable_entries_and_aliases_are_listed():
    entries = ["dog", "St. Louis", "Dog", ".", "hot-dog", "hot dog"]
    exact, word = ConceptMatcher(entries, "metaclip"), ConceptMatcher(entries, "word")
    assert exact.unreachable == [1] and exact.aliases == {}
    assert word.unreachable == [3] and word.aliases == {2: 0, 5: 4}
    assert word.match("Hot Dog") == [0, 4]


def test_many_texts_give_one_list_array():
    matcher = ConceptMatcher(["cat", "dog"], "word")
    found = matcher.match_all(["dog cat", "", "Dog"])
    assert found.to_pylist() == [[0, 1], [], [1]] and str(found.type.value_type) == "int32"
    assert matcher.match_all([]).to_pylist() == []


@given(entry_lists, st.lists(texts, max_size=6), st.sampled_from(["metaclip", "word"]), st.sampled_from(["", "\0"]))
@examples(300)
@example(["cat", "dog", "cat dog"], ["a cat", "dog", "", "\u0301x"], "metaclip", "")
@example(["cat dog", "a\0b"], ["cat", "dog", "a\0b"], "metaclip", "")
@example(["cat dog", "a\0b"], ["cat", "dog", "a\0b"], "word", "")
@example(["dog"], ["a dog and a dog"], "word", "")
def test_texts_matched_together_give_what_each_gives_alone(entries, many, mode, odd):
    matcher = ConceptMatcher(list(dict.fromkeys(entries)), mode)
    many = [text + odd for text in many[:1]] + many[1:]
    assert matcher.match_all(many).to_pylist() == [matcher.match(text) for text in many]


def test_words_are_found_in_text_of_any_size_and_kind():
    rng = np.random.default_rng(0)
    for _ in range(200):
        text = "".join(chr(c) for c in rng.integers(1, 0xD7FF, 50))
        assert word_form(text) == word_form(word_form(text))


@pytest.mark.parametrize(
    ("content", "found"),
    [("{}", "no list"), ("[]", "empty"), ("[1]", "entry 0"), ("[", "not JSON"), ('["a", ""]', "entry 1")],
)
def test_a_bad_list_of_entries_is_named(tmp_path, content, found):
    path = tmp_path / "entries.json"
    path.write_text(content)
    with pytest.raises(RecipeError, match=found) as error:
        read_entries(str(path), "curate.stages.3.entries")
    assert str(error.value).startswith("curate.stages.3.entries: ")


def test_the_digest_is_of_the_content_not_of_the_path(tmp_path):
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    one.write_text(json.dumps(["cat"]))
    other.write_text(json.dumps(["cat"]))
    assert entries_digest(str(one)) == entries_digest(str(other))
    other.write_text(json.dumps(["dog"]))
    assert entries_digest(str(one)) != entries_digest(str(other))
    with pytest.raises(RecipeError, match="cannot read"):
        read_entries(str(tmp_path / "none.json"))


def test_the_list_that_comes_along_is_read():
    assert len(read_entries("builtin:wordnet_nouns")) == 117_798


def test_an_entry_that_the_list_has_twice_is_counted_once():
    assert entry_counts(["dog", "cat", "dog", "emu"], np.array([0, 3]), np.array([10, 2])) == {
        "dog": 10,
        "cat": 0,
        "emu": 2,
    }
