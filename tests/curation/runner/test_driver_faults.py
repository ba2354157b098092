"""All that a look can find is said at once, before any model is loaded or asked for."""

import pytest

from curation.methods.vectors import clip_model
from curation.runner.driver import check, curate
from curation.settings import CurateSettings
from pipeline.errors import RecipeError
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
