"""Captions by a function: each answer is asked for once, however often a run is killed, whichever recipe asks."""

import importlib
import json
import sys
from collections import Counter

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.generation import told
from curation.generation.asking import plain_of
from curation.generation.prompt import read_prompt
from curation.generation.request import Answer
from curation.methods.units import units_of
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


# Who is not asked, and why.

SERVER = {"kind": "openai", "url": "http://host/v1", "model": "m"}
GERMAN = "Ein roter Apfel liegt auf einem Holztisch neben dem Fenster"
ENGLISH = "A red apple lies on a wooden table next to the window"


def asked_of(made: GenerateText, pairs) -> list:
    return made.subjects(units_of(made, pairs))


def counts_of(said) -> dict:
    return dict(Counter(reason or told.ANSWERED for reason in said.reasons)) | dict(said.unasked)


def counted(made: GenerateText, pairs) -> dict:
    units = units_of(made, pairs)
    asked = made.subjects(units)
    answer = [plain_of(Answer("Une pomme rouge est posée sur une table en bois"))]
    return counts_of(made.said(units, [None if key is None else answer for key in asked]))


def test_what_is_in_the_language_already_is_not_translated_and_counted():
    pairs = pairs_of(pair("a", GERMAN, ENGLISH), pair("b", "ok"), pair("c", "Zwei Kinder bauen eine Burg aus Sand"))
    german = GenerateText(name="x", role="translation", prompt="builtin:translate", language="de", backend=SERVER)
    assert sum(key is None for key in asked_of(german, pairs)) == 2
    assert counted(german, pairs) == {told.SAME_LANGUAGE: 2, "language": 2}  # the answer is French
    french = german.model_copy(update={"language": "fr"})
    assert None not in asked_of(french, pairs) and counted(french, pairs) == {told.ANSWERED: 4}
    all_of_it = german.model_copy(update={"same_language": "ask"})
    assert None not in asked_of(all_of_it, pairs)
    rewrite = GenerateText(name="x", role="rewrite", prompt="builtin:rewrite", language="de", backend=SERVER)
    assert None not in asked_of(rewrite, pairs)
    skips = rewrite.model_copy(update={"same_language": "skip"})
    assert sum(key is None for key in asked_of(skips, pairs)) == 2


def test_a_pair_with_one_text_of_another_language_is_asked_about_as_a_whole(tmp_path):
    prompt = tmp_path / "join.j2"
    prompt.write_text("Join them: {{ texts }}")
    pairs = pairs_of(pair("mixed", GERMAN, ENGLISH), pair("german", GERMAN, "Zwei Kinder bauen eine Burg aus Sand"))
    made = GenerateText(
        name="x", role="rewrite", prompt=str(prompt), language="de", same_language="skip", backend=SERVER
    )
    assert made.unit == "pair"
    urls = pairs.column("url").to_pylist()
    skipped = {url for url, key in zip(urls, asked_of(made, pairs), strict=True) if key is None}
    assert skipped == {"http://x.test/german"}


def test_a_translation_without_a_language_is_refused():
    with pytest.raises(ValidationError, match="expected a language"):
        GenerateText(name="x", role="translation", prompt="builtin:translate", backend=SERVER)
    nameless = GenerateText(name="x", role="rewrite", prompt="builtin:translate", backend=SERVER)
    with pytest.raises(RecipeError, match=r"curate\.stages\.3\.language"):
        nameless.check("curate.stages.3")


def test_a_pair_that_lacks_what_a_prompt_reads_is_not_asked_about_unless_the_prompt_asks_after_it(tmp_path):
    column = {"draft": (pa.string(), ["seen", "", None])}
    pairs = pairs_of(pair("a", "x"), pair("b", "y"), pair("c", "z"), **column)
    fuse = GenerateText(name="x", prompt="builtin:fuse_draft", backend=SERVER)
    assert sum(key is None for key in asked_of(fuse, pairs)) == 2
    assert counted(fuse, pairs) == {told.NO_INPUT: 2, told.ANSWERED: 1}
    path = tmp_path / "ours.j2"
    path.write_text("{% if draft %}Seen: {{ draft }}{% endif %} Beside it: {{ texts }}")
    may = GenerateText(name="x", prompt=str(path), backend=SERVER)
    assert None not in asked_of(may, pairs)
    path.write_text("Seen: {{ draft or 'nothing' }} {{ texts }}")
    read_prompt.cache_clear()
    assert None not in asked_of(GenerateText(name="x", prompt=str(path), backend=SERVER), pairs)


def test_a_negative_that_is_no_edit_of_its_caption_is_dropped_by_name():
    made = GenerateText(name="x", role="negative", prompt="builtin:wrong/count", backend=SERVER)
    units = units_of(made, pairs_of(pair("a", "two dogs beside a red car")))
    for text, reason in (
        ("nine dogs beside a red car", told.ANSWERED), ("two dogs beside a red car.", "unchanged"), ("none", "nothing"),
        ("a quiet harbour at dusk with many lights", "rewritten"),
    ):  # fmt: skip
        assert counts_of(made.said(units, [[plain_of(Answer(text))]])) == {reason: 1}
