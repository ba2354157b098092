"""What has one of the values stays, whatever the sort of column."""

import json

import pyarrow as pa
import pytest

from curation.stage_order import check_stages
from curation.stages.clip_image_vector import ClipImageVector
from curation.stages.language import Language
from curation.stages.one_of import OneOf
from curation.table import captions
from pipeline.errors import RecipeError
from tests.helpers import tiny_clip
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, texts_of


def test_captions_go_one_by_one_and_a_pair_with_its_last():
    pairs = pairs_of(pair("both", "a", "b"), pair("other", "c"), pair("none", "d"))
    said = {"a": "en", "b": "de", "c": "de", "d": None}
    texts = captions.explode(pairs).column("text").to_pylist()
    pairs = captions.with_fields(pairs, pa.table({"detected": pa.array([said[text] for text in texts], pa.string())}))
    found = run_rule(OneOf(column="captions.detected", values=["en", "fr"]), pairs)
    assert by_url(pairs, found.reason) == {"both": None, "other": "other", "none": "no_value"}
    assert by_url(pairs, found.detail)["other"] == "captions.detected: de"
    assert texts_of(pairs, found)["both"] == ["a"] and found.caption_drops == {"other": 2, "no_value": 1}
    found = run_rule(OneOf(column="captions.detected", values=["en"], except_for=True, no_value="keep"), pairs)
    assert by_url(pairs, found.reason) == {"both": None, "other": None, "none": None}
    assert texts_of(pairs, found)["both"] == ["b"]


def test_fields_of_the_input_and_numbers_are_taken_as_they_are_written():
    extra = {
        "text": {"n": "1"},
        "number": {"n": 1},
        "true": {"n": True},
        "float": {"n": 1.0},
        "no": {},
        "list": {"n": [1]},
    }
    pairs = pairs_of(*[pair(name, "x", extra=json.dumps(each)) for name, each in extra.items()])
    found = by_url(pairs, run_rule(OneOf(column="extra.n", values=["1"]), pairs).reason)
    assert found == {
        "text": None,
        "number": None,
        "true": "other",
        "float": "no_value",
        "no": "no_value",
        "list": "no_value",
    }
    found = by_url(pairs, run_rule(OneOf(column="extra.n", values=["true"]), pairs).reason)
    assert found["true"] is None


def test_a_column_of_vectors_is_refused():
    with pytest.raises(RecipeError, match=r"stages\.1\.column: .*expected a column of words"):
        check_stages([ClipImageVector(**tiny_clip.kept()), OneOf(column="image_vector", values=["x"])])
    check_stages([Language(), OneOf(column="captions.detected", values=["en"])])


def test_what_is_read_is_the_column_or_all_fields_of_the_input():
    for column, reads in (("extra.site", "extra"), ("captions.source", "captions.source"), ("format", "format")):
        assert OneOf(column=column, values=("a",)).reads == (reads,)
