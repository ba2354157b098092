"""Bounds on a column of pairs or of captions."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.stages.threshold import Threshold
from curation.table import captions
from pipeline.errors import RecipeError
from tests.helpers.pairs import by_url, pair, pairs_of, run_rule, texts_of


def test_pairs_outside_the_bounds_go():
    values = (pa.float32(), [0.1, 0.5, 0.9, None, float("nan")])
    pairs = pairs_of(*[pair(name, "x") for name in "abcde"], quality=values).sort_by("uid")
    order = [url[-1] for url in pairs.column("url").to_pylist()]
    pairs = pairs.set_column(
        pairs.schema.get_field_index("quality"), "quality",
        pa.array([dict(zip("abcde", values[1], strict=True))[each] for each in order], pa.float32()),
    )  # fmt: skip
    found = run_rule(Threshold(column="quality", min=0.5, max=0.8), pairs)
    assert by_url(pairs, found.reason) == {"a": "below", "b": None, "c": "above", "d": "no_value", "e": "no_value"}
    keeps = run_rule(Threshold(column="quality", min=0.5, no_value="keep"), pairs)
    assert by_url(pairs, keeps.reason) == {"a": "below", "b": None, "c": None, "d": None, "e": None}


def test_captions_go_alone_and_a_pair_with_its_last():
    pairs = pairs_of(pair("a", "x", "y"), pair("b", "z"))
    scores = {"x": 0.1, "y": 0.3, "z": 0.2}
    flat = captions.explode(pairs).column("text").to_pylist()
    pairs = captions.with_fields(pairs, pa.table({"score": pa.array([scores[text] for text in flat], pa.float32())}))
    found = run_rule(Threshold(column="captions.score", min=0.25), pairs)
    assert by_url(pairs, found.reason) == {"a": None, "b": "below"}
    assert texts_of(pairs, found)["a"] == ["y"]
    assert found.caption_drops == {"below": 2}


def test_it_wants_a_bound_and_numbers():
    with pytest.raises(ValidationError):
        Threshold(column="x")
    with pytest.raises(RecipeError, match="holds string"):
        Threshold(column="url", min=1).check("curate.stages.0")


def test_of_captions_those_of_the_sources_alone_are_judged_and_the_others_stay_whatever_their_value():
    pairs = pairs_of(pair("a", "x", "y", "v"), pair("b", "z", "w"), pair("c", "u"))
    told = {"x": ("alt", 0.1), "y": ("caption:m", 0.1), "v": ("rewrite:m", 0.9), "z": ("alt", None),
            "w": ("caption:n", None), "u": ("caption:m", 0.1)}  # fmt: skip
    flat = captions.explode(pairs).column("text").to_pylist()
    columns = {
        "source": pa.array([told[t][0] for t in flat]),
        "score": pa.array([told[t][1] for t in flat], pa.float32()),
    }
    pairs = captions.with_fields(pairs, pa.table(columns))
    for sources, kept, dropped in (
        (["synthetic"], {"a": ["x", "v"], "b": ["z"], "c": []}, {"below": 2, "no_value": 1}),
        (["caption:m"], {"a": ["x", "v"], "b": ["z", "w"], "c": []}, {"below": 2}),
        (["rewrite", "original"], {"a": ["y", "v"], "b": ["w"], "c": ["u"]}, {"below": 1, "no_value": 1}),
    ):
        found = run_rule(Threshold(column="captions.score", min=0.5, sources=sources), pairs)
        assert texts_of(pairs, found) == kept and found.caption_drops == dropped
        assert by_url(pairs, found.reason) == {"a": None, "b": None, "c": None if kept["c"] else "below"}
    with pytest.raises(ValidationError, match="captions.score"):
        Threshold(column="width", min=1, sources=["alt"])
    assert Threshold(column="captions.score", min=0.5).digest() == "daa7f3bdd683385f"  # as before there were sources
