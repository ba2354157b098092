"""Every template is filled in by what a pair has, and one that cannot be is refused or left out."""

import pytest
from pydantic import ValidationError

from curation.generation.backends.template import TemplateBackend
from curation.generation.request import Request
from curation.stage import Context
from curation.stages.generate import GenerateText
from tests.helpers import cuts
from tests.helpers.pairs import pair, pairs_of, texts_of


def filled(texts, **row) -> list[str]:
    [answers] = TemplateBackend(texts=texts).open(Context())([Request((), "0", row=row)])
    return [each.text for each in answers]


def test_all_texts_are_filled_in_and_those_that_lack_a_column_are_left_out():
    texts = ["a photo of {label}", "{label}, {colour}", "{{{label}}}"]
    assert filled(texts, label="red_panda", colour=None) == ["a photo of red panda", "{red panda}"]
    assert filled(texts, label="car", colour="blue") == ["a photo of car", "car, blue", "{car}"]
    assert filled(["with {tags}"], tags=["sea", "two_boats"]) == ["with sea, two boats"]
    assert filled(["{label} of {width}"], label="{width}", width=0) == ["{width} of 0"]  # nothing is filled in twice


@pytest.mark.parametrize(
    "text", ["no column", "{0}", "{}", "{image}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a", "a}"]
)
def test_what_names_no_column_of_words_is_refused(text):
    with pytest.raises(ValidationError, match="expected"):
        TemplateBackend(texts=[text])


def test_labels_that_are_captions_become_a_bag_of_captions_with_their_source():
    stage = GenerateText(name="bag", backend={"kind": "template", "texts": ["a photo of {text}", "one {text}"]})
    assert stage.unit == "caption" and stage.reads == ("captions.text", "captions.source")
    pairs = pairs_of(pair("a", "red boat", "tall tree"), pair("b"))
    found = cuts.measured(stage, pairs)
    assert texts_of(pairs, found)["a"] == [
        "red boat", "tall tree", "a photo of red boat", "one red boat", "a photo of tall tree", "one tall tree",
    ]  # fmt: skip
    made = [each for each in found.captions.to_pylist()[0] if ":" in each["source"]]
    assert {each["source"] for each in made} == {"caption:bag"} and {each["model"] for each in made} == {"templates"}
