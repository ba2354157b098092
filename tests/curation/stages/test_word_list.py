"""A caption with a word of the list stays: as it stands between spaces, whatever its case."""

import pytest

from curation.stage_order import check_stages
from curation.stages.word_list import WordList
from pipeline.errors import RecipeError
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, texts_of


def test_words_are_what_stands_between_spaces(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("Dog\n# a remark\nboat\n")
    texts = {
        "has": ["the DOG barks", "a cat"],
        "sign": ["a dog, barks"],
        "part": ["dogs"],
        "tab": ["my\tboat"],
        "no": [],
    }
    pairs = pairs_of(*[pair(name, *some) for name, some in texts.items()])
    found = run_rule(WordList(words=str(path)), pairs)
    assert by_url(pairs, found.reason) == {"has": None, "sign": "no_word", "part": "no_word", "tab": None, "no": None}
    assert texts_of(pairs, found)["has"] == ["the DOG barks"] and found.caption_drops == {"no_word": 3}


def test_the_built_in_list_knows_inflected_forms_and_first_senses_alone():
    # of a church the first sense is an institution, of men humanity
    texts = ["two mice", "three geese", "hats", "old churches", "the men", "an idea", "of it"]
    pairs = pairs_of(*[pair(text.replace(" ", "-"), text) for text in texts])
    found = by_url(pairs, run_rule(WordList(), pairs).reason)
    assert {name for name, why in found.items() if why is None} == {"two-mice", "three-geese", "hats"}


@pytest.mark.parametrize(
    ("content", "said"), [("ice cream\n", "line 1.*expected one word"), ("# none\n", "holds no word")]
)
def test_what_is_no_list_of_words_is_refused_before_any_work(tmp_path, content, said):
    path = tmp_path / "words.txt"
    path.write_text(content)
    with pytest.raises(RecipeError, match=rf"stages\.0\.words: .*{said}"):
        check_stages([WordList(words=str(path))])
    with pytest.raises(RecipeError, match=r"stages\.0"):
        check_stages([WordList(words=str(tmp_path / "gone.txt"))])
    with pytest.raises(RecipeError, match=r"stages\.0\.words"):
        check_stages([WordList(words="builtin:gone")])


def test_the_content_and_not_the_path_is_in_the_digest(tmp_path):
    one, other = tmp_path / "a.txt", tmp_path / "b.txt"
    one.write_text("dog\n")
    other.write_text("dog\n")
    assert WordList(words=str(one)).digest() == WordList(words=str(other)).digest()
    other.write_text("cat\n")
    assert WordList(words=str(one)).digest() != WordList(words=str(other)).digest() != WordList().digest()
