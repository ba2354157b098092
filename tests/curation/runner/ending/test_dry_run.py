"""A dry run does all but ask, says what would be asked, and leaves the run that asks less to do and the same result."""

import json

import pytest

from curation.runner.driver import curate
from curation.runner.ending.dry_run import dry_run
from curation.settings import CurateSettings
from pipeline import storage
from pipeline.errors import ClipmillError
from tests.helpers import small_crawl
from tests.helpers.generators import write_module

CAPTION = {
    "kind": "generate",
    "name": "c",
    "backend": {"kind": "function", "function": "our_models:caption", "errors": "stop"},
}
REWRITE = {
    "kind": "generate",
    "name": "r",
    "role": "rewrite",
    "backend": {"kind": "function", "function": "our_models:rewrite", "reads": ["text"]},
}
BEFORE = [{"kind": "image_decode"}, {"kind": "exact_duplicates"}]


@pytest.fixture
def models(tmp_path, monkeypatch):
    yield from write_module(tmp_path, monkeypatch)


def settings(tmp_path, stages, output="out", **more):
    crawl = tmp_path / "crawl"
    if not crawl.exists():
        small_crawl.write(crawl, small_crawl.records(48))
    plain = {
        "sources": [{"kind": "warc", "paths": [f"{crawl}/*"]}], "stages": stages, "output": str(tmp_path / output),
        "pool": str(tmp_path / "pool"), "ray": {"address": "inline"},
        "placement": {"generate": {"batch": 4}} if CAPTION in stages else {},
    }  # fmt: skip
    return CurateSettings.model_validate({**plain, **more})


def foretold(found, **more):
    return dry_run(found, name="x", seed=0, quiet=True, **more)


def made(found):
    return curate(found, name="x", seed=0, quiet=True)


def test_it_says_what_the_run_asks_and_asks_nothing_itself(models, tmp_path):
    found = settings(tmp_path, [*BEFORE, CAPTION])
    [told] = foretold(found)
    assert models.calls == [] and not (tmp_path / "out/manifest.json").exists()
    made(found)
    assert told["requests"] == told["inputs"] == len(models.calls) > 10 and told["known"] == 0 and not told["about"]
    assert len(told["prompts"]) == 10 and all(p["messages"][0]["images"] == 1 and p["thumb"] for p in told["prompts"])


def test_nothing_it_says_of_the_next_stage_depends_on_the_cut(models, tmp_path):
    stages = [{"kind": "image_decode"}, CAPTION, REWRITE]  # with copies, in one bucket and in several
    whole = foretold(settings(tmp_path, stages))
    cut = foretold(settings(tmp_path, stages, "other", buckets=16))
    assert cut[0] == whole[0]
    assert cut[1]["requests"] >= whole[1]["requests"] > 0  # distinct within a bucket
    made(settings(tmp_path, stages))
    assert len(models.calls) == whole[0]["requests"]


def test_what_is_answered_is_known_and_a_later_stage_is_bounded(models, tmp_path):
    models.stop_after = 9
    with pytest.raises(ClipmillError, match="killed"):
        made(settings(tmp_path, [*BEFORE, CAPTION]))
    models.stop_after, paid = None, len(models.calls)
    first, second = foretold(settings(tmp_path, [*BEFORE, CAPTION, REWRITE]))
    assert len(models.calls) == paid == first["known"] == 8
    made(settings(tmp_path, [*BEFORE, CAPTION]))
    assert first["requests"] == len(models.calls) - paid
    assert second["about"] and second["requests"] > 0
    texts = settings(tmp_path, [*BEFORE, CAPTION, REWRITE])
    first, second = foretold(texts)
    assert (first["requests"], first["known"]) == (0, len(models.calls)) and not second["about"]
    made(texts)
    assert second["requests"] == len(models.texts)
    assert foretold(texts) == []  # finished


def test_a_stage_that_reads_what_others_will_have_measured_is_foretold_all_the_same(models, tmp_path):
    between = [{"kind": "language"}, {"kind": "text_statistics"}, {"kind": "function", "function": "our_models:sizes",
               "columns": {"n": "int64", "label": "string"}}]  # fmt: skip
    whole = {"kind": "function", "function": "our_models:whole", "reads": ["n", "label", "texts"]}
    both = {**REWRITE, "backend": whole}
    stages = [{"kind": "image_decode"}, CAPTION, *between, both]
    _, second = foretold(settings(tmp_path, stages))
    assert second["about"] and second["requests"] > 10
    assert all("<label>" in prompt["messages"][0]["text"] for prompt in second["prompts"])
    made(settings(tmp_path, stages))
    assert second["requests"] <= models.asked  # equal but for what is still to be measured


def test_with_every_answer_there_it_stops_before_the_dataset_is_written(models, tmp_path):
    made(settings(tmp_path, [*BEFORE, CAPTION]))
    [told] = foretold(settings(tmp_path, [*BEFORE, CAPTION], "other", emit={"pairs_per_shard": 7}))
    assert told["requests"] == 0 and told["known"] == len(models.calls) and told["prompts"] == []
    assert not (tmp_path / "other/manifest.json").exists()


def test_a_dataset_that_is_there_stays_as_it_is_and_nothing_is_done_twice(models, tmp_path):
    made(settings(tmp_path, BEFORE))
    before = small_crawl.outcome(tmp_path / "out")
    foretold(settings(tmp_path, [*BEFORE, CAPTION], fresh=True))
    assert small_crawl.outcome(tmp_path / "out") == before
    assert not json.loads((tmp_path / "out/_clipmill.json").read_text())["remaking"]
    made(settings(tmp_path, [*BEFORE, CAPTION]))
    dry = small_crawl.outcome(tmp_path / "out")
    made(settings(tmp_path, [*BEFORE, CAPTION], "other", pool=str(tmp_path / "another")))
    assert small_crawl.outcome(tmp_path / "other") == dry


def test_a_dry_run_in_an_object_store_gives_the_turn_back(models, tmp_path):
    found = settings(tmp_path, [*BEFORE, CAPTION], output="out")
    store = found.model_copy(update={"output": "memory://dry/out", "pool": "memory://dry/pool"})
    assert foretold(store)[0]["requests"] == foretold(found)[0]["requests"]
    assert not storage.exists("memory://dry/out/_run.json")
    made(store)
