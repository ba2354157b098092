"""Captions by a function: each answer is asked for once, however often a run is killed, whichever recipe asks."""

import importlib
import json
import sys

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stages.generate import GenerateText
from pipeline.errors import ClipmillError, RecipeError
from tests.helpers import cuts, small_crawl
from tests.helpers.pairs import pair, pairs_of, texts_of

MODULE = """
calls, stop_after = [], None


def describe(rows, word="picture"):
    if stop_after is not None and len(calls) + len(rows) > stop_after:
        raise RuntimeError("killed")
    calls.extend(rows)
    sizes = [len(row["image"]) for row in rows]
    return [{"failed": "refusal"} if size % 5 == 0 else [f"a {word} of {size} bytes"] for size in sizes]


async def rewrite(rows):
    return [[{"text": row["text"].upper(), "score": 0.5}, row["text"]] for row in rows]


def both(rows):
    return [[f"{row['width']}: {row['texts'][0]}"] for row in rows]


nothing = None
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "our_captioner.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("our_captioner")
    sys.modules.pop("our_captioner", None)


def stage(function: str, role: str = "caption", *, file: str = "our_captioner", **backend) -> GenerateText:
    backend = {"kind": "function", "function": f"{file}:{function}"} | backend
    return GenerateText(name="ours", role=role, backend=backend, checks={"min_words": 0})


def test_an_async_rewriter_of_texts(module):
    pairs = pairs_of(pair("a", "red", "blue"), pair("b"))
    found = cuts.measured(stage("rewrite", "rewrite", reads=("text",), model="m"), pairs)
    assert texts_of(pairs, found) == {"a": ["red", "blue", "RED", "BLUE"], "b": []}
    made = [c for item in found.captions.to_pylist() for c in item if c["source"] == "rewrite:ours"]
    assert [(c["score"], c["model"]) for c in made] == [(0.5, "m")] * 2


def test_a_function_of_whole_pairs_sees_only_what_it_reads(module):
    pairs = pairs_of(pair("a", "red"), pair("b", "red")).append_column("width", [[7, 7]])
    made, keys = cuts.measure(stage("both", reads=("width", "texts")), pairs)
    assert [each[0]["text"] for each in made.column("answers").to_pylist()] == ["7: red"] * 2
    assert len(set(keys.to_pylist())) == 1  # uid and url name nothing that it has not seen


@pytest.mark.parametrize("wrong", ["our_captioner:gone", "no_such_module:f", "our_captioner:nothing"])
def test_what_cannot_be_called_is_refused_before_any_work(module, wrong):
    with pytest.raises(RecipeError, match="generate|curate.stages.0"):
        stage(wrong.partition(":")[2], file=wrong.partition(":")[0]).check("curate.stages.0")


def test_function_file_and_version_name_the_answers(module, tmp_path):
    first = stage("describe").digest()
    assert first != stage("rewrite").digest() and first != stage("describe", version="2").digest()
    (tmp_path / "our_captioner.py").write_text(MODULE + "# another prompt\n")
    assert first != stage("describe").digest()


def recipe(tmp_path, name: str, **settings) -> CurateSettings:
    paths = small_crawl.write(tmp_path / "crawl", small_crawl.records(48))
    backend = {"kind": "function", "function": "our_captioner:describe", "errors": "stop"}
    stages = [{"kind": "generate", "backend": backend, "name": "ours", **settings}]
    return CurateSettings.model_validate({
        "sources": [{"kind": "warc", "paths": paths}], "stages": stages, "output": str(tmp_path / name),
        "pool": str(tmp_path / "pool"), "ray": {"address": "inline"}, "placement": {"generate": {"batch": 4}},
    })  # fmt: skip


def test_a_killed_run_pays_only_for_calls_under_way_and_another_recipe_nothing(module, tmp_path):
    module.stop_after = 10
    with pytest.raises(ClipmillError, match="killed"):
        curate(recipe(tmp_path, "one"), name="x", seed=0, quiet=True)
    assert len(module.calls) == 8
    module.stop_after = None
    first = curate(recipe(tmp_path, "one"), name="x", seed=0, quiet=True)
    bodies = [row["image"] for row in module.calls]
    assert len(bodies) == len(set(bodies)) > 20
    again = curate(recipe(tmp_path, "two"), name="x", seed=1, quiet=True)
    assert len(module.calls) == len(bodies) and again.num_pairs == first.num_pairs
    summary = json.loads((tmp_path / "one/summary.json").read_text())
    failed = [each["others"] for each in summary["stages"] if each["name"] == "generate"][0]
    assert failed["refusal"] > 0 and not [each for each in summary["stages"] if each["drops"].get("refusal")]
    assert "refusal" not in (tmp_path / "one/manifest.json").read_text()
