"""A chain is its steps: one after the other, each with what is said beside it; each built-in one does what it says."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from curation.generation.chain import builtin_chains, expanded
from curation.generation.request import Request
from curation.runner.driver import curate
from curation.runner.ending.dry_run import dry_run
from curation.settings import CurateSettings
from curation.stages.generate import GenerateText
from pipeline.errors import RecipeError
from tests.helpers import chat_server, small_crawl

SERVER = {"kind": "openai", "url": "http://host/v1", "model": "m"}


def settings(*stages):
    plain = {"sources": [{"kind": "warc", "paths": ["x"]}], "stages": list(stages), "output": "out"}
    return CurateSettings.model_validate(plain).stages


def steps_of(name: str) -> list[GenerateText]:
    chain = {"kind": "generate", "chain": f"builtin:{name}", "name": "last", "backend": SERVER}
    return settings({"kind": "image_decode"}, chain, {"kind": "language"})[1:-1]


@pytest.mark.parametrize("name", builtin_chains())
def test_every_built_in_chain_makes_stages_that_render_and_whose_columns_come_before_they_are_read(name):
    made = steps_of(name)
    assert made and made[-1].name == "last" and all(each.kind == "generate" for each in made)
    added: set[str] = set()
    for each in made:
        assert {c for c in each.reads if "." not in c and c != "image"} <= added
        added |= {field.name for field in each.adds}
        each.check("curate.stages.1")
        text = "trois bateaux rouges sur la mer"
        row = {"image": b"img", "text": text, "source": "alt", "captions": [{"text": text, "source": "alt"}]}
        rows = pa.Table.from_pylist([row | {name: "zwei bateaux: rouges" for name in added}])
        [[request]] = each.requests(rows, ["0" * 32])
        assert isinstance(request, Request) and all(message.text for message in request.messages)
        told = " ".join(message.text for message in request.messages)
        assert "img" not in told and ("bateaux" in told or each.reads == ("image",))


# What each is to leave with a pair of one caption: sources of captions, of negatives, and columns.
SHAPES = {
    "rewrite": (["rewrite:last"], [], []),
    "short_and_long": (["caption:short", "caption:last"], [], []),
    "caption_then_fuse": (["rewrite:last"], [], ["draft"]),
    "tags_to_text": (["caption:last"], [], []),
    "labels_to_text": (["caption:last"] * 3, [], []),
    "entities_to_text": (["caption:last"], [], ["entities"]),
    "attributes_to_text": (["caption:last"], [], ["attributes"]),
    "contradict": ([], ["negative:attribute", "negative:count", "negative:last", "negative:relation"], []),
    "rewrite_and_contradict": (["rewrite:reworded"], ["negative:last"], []),
    "translate_both_ways": (["translation:english", "translation:last"], [], []),
    "there_and_back": (["rewrite:last"], [], ["abroad"]),
    "parts": (["caption:last"] * 3, [], []),
}
ANSWERS = [
    ["three to five short captions", "a green roof {n}\n- a wall of stone {n}\nsome tall grass {n}"],
    ["Change exactly one thing", "{edit}"], ["You make wrong captions", "{edit}"],
    ["into German", "eine Zeichnung mit der Nummer {n} auf weißem Papier"],
    ["into English", "the drawing that has the number {n} on white paper"],
    ["", "a drawing that shows number {n}"],
]  # fmt: skip


def recipe(folder: Path, stages: list, output: str, **more) -> CurateSettings:
    paths = small_crawl.write(folder / "crawl", small_crawl.records(12))
    return CurateSettings.model_validate({
        "sources": [{"kind": "warc", "paths": paths}], "stages": stages, "output": str(folder / output),
        "pool": str(folder / "pool"), "ray": {"address": "inline"}, **more,
    })  # fmt: skip


def sides(output: Path) -> list[dict]:
    """Every KEY.json."""
    found = []
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with chat_server.running(tmp_path_factory.mktemp("server"), answers=ANSWERS, bodies=True) as running:
        yield running


@pytest.mark.parametrize("name", builtin_chains())
def test_every_built_in_chain_is_foretold_runs_against_a_server_and_leaves_what_it_says(server, tmp_path, name):
    captions, negatives, columns = SHAPES[name]
    chain = {"kind": "generate", "chain": f"builtin:{name}", "name": "last", "backend": SERVER | {"url": server.url}}
    stages = [{"kind": "image_decode"}, {"kind": "exact_duplicates"}, chain]
    found = recipe(tmp_path, stages, "out")
    before = sum(server.asked().values())
    told = dry_run(found, name="x", seed=0, quiet=True)
    assert told[0]["requests"] > 3 and len(told) == len(found.stages) - 2 and sum(server.asked().values()) == before
    curate(found, name="x", seed=0, quiet=True)
    first = sum(server.asked().values()) - before
    assert (first >= told[0]["requests"]) == (name != "labels_to_text")
    pairs = sides(tmp_path / "out")
    assert len(pairs) > 3
    for pair in pairs:
        made = [each for each in pair["captions"] if ":" in each["source"]]
        own = len(pair["captions"]) - len(made)
        many = own if found.stages[-1].unit == "caption" else 1
        sources = {each["source"] for each in made}
        assert own and (sources == set(captions) or name == "translate_both_ways" and sources < set(captions))
        assert len(made) <= len(captions) * many and all(each["model"] for each in made)
        wrong = pair.get("negatives", [])
        assert sorted({each["source"] for each in wrong}) == sorted(set(negatives))
        own_texts = {each["text"] for each in pair["captions"]}
        assert all(each["of"] in own_texts and each["text"] not in own_texts for each in wrong)
    columns_found = {field.name for each in found.stages if isinstance(each, GenerateText) for field in each.adds}
    assert columns_found == set(columns)
    if name in ("contradict", "parts"):
        digest = small_crawl.outcome(tmp_path / "out")
        curate(recipe(tmp_path, stages, "again", buckets=4), name="x", seed=0, quiet=True)
        assert sum(server.asked().values()) - before == first and small_crawl.outcome(tmp_path / "again") == digest


def test_every_built_in_chain_has_its_shape_here():
    assert set(SHAPES) == set(builtin_chains())


def test_what_a_step_says_itself_counts_and_backends_are_put_together():
    chain = [{"name": "a", "role": "column", "prompt": "builtin:caption", "backend": {"model": "big"}},
             {"prompt": "builtin:rewrite", "samples": 3}]  # fmt: skip
    one, two = settings({"kind": "generate", "chain": chain, "name": "z", "samples": 2, "backend": SERVER})
    assert (one.name, one.samples, one.backend.model, one.backend.url) == ("a", 2, "big", "http://host/v1")
    assert (two.name, two.samples, two.backend.model, two.role) == ("z", 3, "m", "caption")


def test_a_step_with_a_backend_of_another_kind_takes_nothing_from_the_chains():
    chain = [{"name": "t", "backend": {"kind": "template", "texts": ["a {text}"]}}, {"prompt": "builtin:rewrite"}]
    one, two = settings({"kind": "generate", "chain": chain, "name": "z", "backend": SERVER})
    assert one.backend.kind == "template" and two.backend.kind == "openai"


def test_stages_without_a_chain_are_left_alone():
    plain = [{"kind": "language"}, 3]
    assert expanded(plain, GenerateText) == plain and expanded("x", GenerateText) == "x"


STEP = {"name": "a", "prompt": "builtin:caption"}


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("builtin:none", ["curate.stages.1.chain", "builtin:caption_then_fuse"]),
        ("builtin:caption_then_fus", ["did you mean `builtin:caption_then_fuse`?"]),
        ("gone/chain.yaml", ["cannot read gone/chain.yaml", "a YAML list of steps"]),
        ([], ["holds no steps"]), (["x"], ["has a step that is none"]),
        ([{"prompt": "builtin:caption"}, STEP], ["step 1 of 2: has no name"]),
        ([STEP, STEP | {"promt": "x"}], ["step 2 of 2: generate.promt", "unknown key", "did you mean `prompt`?"]),
        ([STEP, STEP | {"checks": {"ecko": False}}], ["step 2 of 2: generate.checks.ecko", "did you mean `echo`?"]),
        ([STEP, {"name": "b"}], ["step 2 of 2: generate", "expected a prompt"]),
        ([STEP, {"name": "b", "prompt": "builtin:captoin"}], ["step 2 of 2", "did you mean `builtin:caption`?"]),
        ([STEP, {"name": "b", "prompt": "no/such.j2"}], ["step 2 of 2", "cannot read no/such.j2"]),
        ([STEP, {"chain": "builtin:parts"}], ["step 2 of 2: is a chain itself"]),
        ([STEP, STEP | {"role": "negativ"}], ["step 2 of 2: generate.role"]),
        ([STEP, STEP | {"language": "german"}], ["step 2 of 2: generate.language", "did you mean `de`?"]),
        ([STEP, STEP | {"backend": {"kind": "template"}}], ["step 2 of 2: generate.backend.texts", "is missing"]),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_refused_with_place_and_hint(chain, said):
    with pytest.raises(RecipeError) as error:
        settings({"kind": "language"}, {"kind": "generate", "chain": chain, "backend": SERVER})
    assert all(words in str(error.value) for words in ["curate.stages.1.chain", *said]), str(error.value)


def test_a_chain_in_another_stage_is_refused():
    with pytest.raises(RecipeError, match="in a stage `generate`"):
        settings({"kind": "language", "chain": []})


def test_steps_that_read_each_other_in_a_circle_or_backwards_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"reads_{name}.j2").write_text(f"Say {{{{ {name} }}}} in other words.")
    reads = {name: {"role": "column", "prompt": str(tmp_path / f"reads_{name}.j2")} for name in ("a", "b")}
    for chain, said in (
        ([{"name": "a", **reads["b"]}, {"name": "b", **reads["a"]}], "step 1 of 2: reads the column `b`, which step 2"),
        ([{"name": "a", **reads["a"]}], "step 1 of 1: reads the column `a`, which it makes itself"),
    ):
        with pytest.raises(RecipeError, match=said):
            settings({"kind": "generate", "chain": chain, "backend": SERVER})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: a, prompt: 'builtin:caption', name: b}", "the key 'name' appears twice"),
        ("- &x {name: a}\n- *x", "aliases"), ("name: a", "holds dict"), ("- [", "line"),
        ("- !!python/name:os.system", "tag"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_chain_is_refused_by_line(tmp_path, text, said):
    (tmp_path / "chain.yaml").write_text(text)
    with pytest.raises(RecipeError, match=said) as error:
        settings({"kind": "generate", "chain": str(tmp_path / "chain.yaml"), "backend": SERVER})
    assert "chain.yaml" in str(error.value)
