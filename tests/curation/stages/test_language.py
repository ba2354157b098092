"""Languages of captions, offline; the page's own word stays beside them."""

import pyarrow as pa
import pytest

from curation.stages.language import Language
from curation.table import captions
from tests.helpers.pairs import measured, pair, pairs_of

TEXTS = {
    "a black dog on the street": "en", "ein roter Ball auf der Wiese": "de", "une maison au bord de la mer": "fr",
    "красная машина на улице": "ru", "一只黑色的狗": "zh", "黒い犬がいます": "ja", "two lines\nof English text": "en",
}  # fmt: skip


def found(*texts: str, **settings) -> dict[str, tuple]:
    flat = captions.explode(measured(Language(**settings), pairs_of(pair("a", *texts))))
    assert set(flat.column("language").to_pylist()) == {""}
    columns = (flat.column(name).to_pylist() for name in ("text", "detected", "detected_score"))
    return {text: (name, score) for text, name, score in zip(*columns, strict=True)}


def test_languages_are_told():
    assert {text: name for text, (name, _) in found(*TEXTS).items()} == TEXTS


@pytest.mark.parametrize("text", ["", "123", "- / -", "😀"])
def test_what_has_no_letter_has_no_language(text):
    assert found(text)[text] == (None, None)


def test_what_is_too_unsure_has_none():
    text = "a black dog on the street"
    assert 0 < found(text)[text][1] <= 1
    assert found(text, min_score=1.1)[text] == (None, None)


def test_an_empty_table():
    table = Language().open(None)(pa.table({"text": pa.array([], pa.string())}))
    assert table.num_rows == 0 and table.column_names == ["detected", "detected_score"]
