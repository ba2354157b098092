"""All that a look can find is said at once, before any model is loaded or asked for."""

import sys

import pytest
from fsspec.registry import _registry

from curation.methods.vectors import clip_model
from curation.runner.driver import check, curate
from curation.settings import CurateSettings
from pipeline.errors import DataError, RecipeError
from tests.helpers import small_crawl

GONE = {"kind": "clip_image_vector", "model": "ViT-B-32", "pretrained": "openai"}


def recipe(tmp_path, sources, stages):
    plain = {"sources": sources, "stages": stages, "output": str(tmp_path / "out"), "ray": {"address": "inline"}}
    return CurateSettings.model_validate(plain)


@pytest.fixture
def asked(monkeypatch):
    """What was asked for over a network that is not there."""
    found: list[str] = []

    def load(*args):
        found.append(args[1])
        raise RecipeError(f"{args[3]}.pretrained", f"{args[1]!r} cannot be downloaded")

    monkeypatch.setattr(clip_model.ClipModel, "load", load)
    return found


@pytest.mark.parametrize("run", [check, lambda settings: curate(settings, name="x", seed=0)])
def test_what_can_be_seen_is_said_together_and_nothing_is_asked_for(tmp_path, asked, run):
    sources = [{"kind": "warc", "paths": [str(tmp_path / "no.warc.gz")]}, {"kind": "table", "paths": ["/no/such.csv"]}]
    stages = [{"kind": "image_decode"}, GONE, {"kind": "word_list", "words": "/gone.txt"}, {"kind": "clip_score"}]
    with pytest.raises(RecipeError) as raised:
        run(recipe(tmp_path, sources, stages))
    said = str(raised.value)
    for place in ("sources.0.paths.0", "sources.1.paths.0", "stages.2.words", "stages.3 (clip_score)"):
        assert said.count(f"curate.{place}: ") == 1, said
    assert asked == [] and "downloaded" not in said and not (tmp_path / "out").exists()


def test_models_are_asked_for_once_all_else_is_there(tmp_path, asked):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(6))
    with pytest.raises(RecipeError, match=r"curate\.stages\.1\.pretrained: .* cannot be downloaded"):
        check(recipe(tmp_path, [{"kind": "warc", "paths": paths}], [{"kind": "image_decode"}, GONE]))
    assert len(asked) == 1


def test_a_model_that_is_none_is_said_by_its_dotted_path_alone(tmp_path):
    stages = [{"kind": "image_decode"}, GONE | {"model": str(tmp_path / "no-model")}, {"kind": "kmeans", "k": 3}]
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(6))
    with pytest.raises(RecipeError) as raised:
        check(recipe(tmp_path, [{"kind": "warc", "paths": paths}], stages))
    assert str(raised.value).startswith("curate.stages.1.pretrained: ") and "clip_image_vector" not in str(raised.value)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"kind": "threshold", "column": "extra.simlarity", "min": 0.3}, r"threshold\.no_value"),
        ({"kind": "quota", "by": "host", "counts": {"nobody.test": 5}}, r"quota\.no_group"),
    ],
)
def test_a_name_that_the_inputs_have_nothing_of_is_what_to_look_at(tmp_path, stage, said):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(12))
    settings = recipe(tmp_path, [{"kind": "warc", "paths": paths}], [{"kind": "image_decode"}, stage])
    with pytest.raises(DataError, match=f"{said} .*\nhint: look whether the inputs have .* stage `{stage['kind']}`"):
        curate(settings, name="x", seed=0, quiet=True)


def test_a_column_that_is_not_there_is_told_by_what_it_looks_like(tmp_path):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(6))
    stages = [{"kind": "quota", "by": "language", "counts": {"en": 5}}]
    with pytest.raises(RecipeError, match=r"(?s)stages\.0 \(quota\): .*did you mean `captions\.language`\?"):
        check(recipe(tmp_path, [{"kind": "warc", "paths": paths}], stages))


def test_a_store_without_its_driver_is_told_to_be_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)  # of a test before, in this process
    settings = recipe(tmp_path, [{"kind": "warc", "paths": ["s3://no-such-bucket-x/a.warc.gz"]}], [])
    with pytest.raises(RecipeError, match=r"sources\.0\.paths\.0: .*[Ii]nstall s3fs.*\nhint: install .* s3://"):
        check(settings)
