"""Columns by a function of one's own: typed, counted reasons, and faults that name function and row."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.stage_order import added
from curation.stages.function import CallFunction
from curation.table import captions
from pipeline.errors import DataError, RecipeError
from tests.helpers import cuts
from tests.helpers.pairs import measured, pair, pairs_of

HERE = "tests.helpers.measurer"


def of_texts(**how) -> CallFunction:
    return CallFunction(function=f"{HERE}:words", inputs=("captions.text",), columns={"n": "int32"}, **how)


def test_texts_are_measured_for_their_captions():
    pairs = pairs_of(pair("a", "one two", "three"), pair("b", "12"))
    verdicts = cuts.measured(of_texts(), pairs)
    flat = captions.explode(captions.replace(pairs, verdicts.captions))
    assert dict(zip(flat["text"].to_pylist(), flat["n"].to_pylist(), strict=True)) == {"one two": 2, "three": 1}
    assert set(verdicts.reason.to_pylist()) == {None, "a_number"} and verdicts.caption_drops == {"a_number": 1}
    assert added(of_texts()) == ["captions.n"]


def test_images_are_measured_with_parameters_and_types():
    pairs = pairs_of(pair("a", image_sha256="1" * 64), pair("b", image_sha256="2" * 64))
    how = {"columns": {"n": "int64", "even": "bool"}, "params": {"odd": "odd_size"}}
    verdicts = cuts.measured(CallFunction(function=f"{HERE}:sizes", **how), pairs, [b"1234", b"123"])
    assert verdicts.reason.to_pylist() == [None, "odd_size"]
    assert verdicts.columns.schema.types == [pa.int64(), pa.bool_()]
    assert verdicts.columns.to_pylist()[0] == {"n": 4, "even": True}


def test_columns_and_captions_are_seen_pair_by_pair_and_none_is_null():
    pairs = pairs_of(pair("a", "x", "y"), pair("b"), width=(pa.int32(), [3, 4]))
    stage = CallFunction(function=f"{HERE}:wide", inputs=("width", "captions.text"), columns={"x": "string"})
    assert sorted(measured(stage, pairs)["x"].to_pylist(), key=str) == ["3: 2", None]


@pytest.mark.parametrize(
    ("how", "said"),
    [("raise", "KeyError.*colour.*'bad'"), ("type", "three.*'bad'"), ("huge", "1099511627776.*'bad'"),
     ("name", "'m'.*'bad'"), ("fewer", "2 answers for 3")],
)  # fmt: skip
def test_a_fault_names_the_function_and_the_row(how, said):
    inputs, params = ("captions.text",), {"how": how}
    stage = CallFunction(function=f"{HERE}:bad", inputs=inputs, columns={"n": "int32"}, params=params)
    with pytest.raises(DataError, match=f"{HERE}:bad.*{said}"):
        measured(stage, pairs_of(pair("a", "good", "bad", "other")))


def test_a_change_of_the_file_is_another_measurement(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "some_measurer.py"
    digests = []
    for text in ("def f(rows): return [{} for _ in rows]", "def f(rows): return [{'n': 1} for _ in rows]"):
        module.write_text(text)
        stage = CallFunction(function="some_measurer:f", columns={"n": "int32"})
        digests.append(stage.digest())
    assert digests[0] != digests[1]


@pytest.mark.parametrize("function", ["no.such.module:f", f"{HERE}:none", f"{HERE}:__name__"])
def test_what_cannot_be_called_is_refused_before_any_work(function):
    stage = CallFunction(function=function, columns={"n": "int32"})
    with pytest.raises(RecipeError, match="module:function"):
        stage.check("curate.stages.0")


@pytest.mark.parametrize(
    "how",
    [{"columns": {}}, {"columns": {"reason": "string"}}, {"columns": {"a b": "bool"}},
     {"columns": {"n": "int32"}, "exported": ["m"]}, {"columns": {"n": "vector"}},
     {"columns": {"sha256": "string"}, "exported": ["sha256"]}],
)  # fmt: skip
def test_columns_are_declared(how):
    with pytest.raises(ValidationError):
        CallFunction(function=f"{HERE}:sizes", **how)
