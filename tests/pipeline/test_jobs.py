"""`check` finds every fault before any work: each setting is tried with what nobody should write there."""

from typing import Any

import pytest

from curation.settings import CurateSettings
from pipeline import jobs
from pipeline.errors import RecipeError
from pipeline.recipe import load
from tests.helpers.lanes import sampled
from tests.helpers.places import ROOT
from training.launch.settings import LaunchSettings
from training.settings import EvalSettings, TrainSettings

SECTIONS = {"curate": CurateSettings, "train": TrainSettings, "eval": EvalSettings, "launch": LaunchSettings}
HOSTILE = [
    "0",
    "-1",
    "1" + "0" * 38,
    "1e300",
    ".inf",
    ".nan",
    "true",
    "abc",
    "''",
    "[]",
    "{}",
    "null",
    "[[1]]",
    '"\\0"',
    "-0.5",
]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("name=[a]", "name"), ("name=''", "name"), ("seed=1.5", "seed"), ("seed=-1", "seed"), ("seed=true", "seed"),
        ("train.output=''", "train.output"), ("train.data=['']", "train.data.0"),
        ("curate.output=' '", "curate.output"),
        ("train.optimizer.betas=[2,3]", "train.optimizer.betas.0"), ("train.optimizer.betas=[0.9,1]", "betas.1"),
        ("train.model.config.vision_cfg.patch_size=0", "patch_size"), ("train.model.config.embed_dim=0", "embed_dim"),
        ("train.model.config.vision_cfg.image_size=4", "smaller than patch_size"),
        ("train.model.config.vision_cfg.head_width=7", "does not divide width"),
        ("train.model.config.text_cfg.heads=5", "does not divide width"),
        ("train.model.config.text_cfg.layer=3", "did you mean `layers`"),
        ("train.model={name: ViT-B-33}", "did you mean `ViT-B-32`"),
        ("train.model={name: ViT-B-32, std: [0, 1, 1]}", "std.0"),
        ("eval.checkpoint=../../../etc/passwd", "eval.checkpoint"), ("eval.checkpoint=gone.pt", "eval.checkpoint"),
        ("eval.checkpoint=elsewhere/step-00000001", "eval.checkpoint"), ("eval.sets=[]", "eval.sets"),
        ("eval.sets.0.path=gone", "gone/test"), ("eval.sets.0.ks=[0]", "ks.0"),
        ("launch.processes=0", "launch.processes"),
        ("launch.processes=300", "train.batch.global"), ("train.output=s3://bucket/x", "train.output"),
        ("train.reader.workers=true", "train.reader.workers"), ("train.reader.workers=1000000", "train.reader.workers"),
        ("curate.buckets=3", "curate.buckets"), ("curate.stages.0.kind=opt_in", "curate.stages.0.kind"),
        ("curate.sources.0.paths=[gone.warc.gz]", "gone.warc.gz"), ("train.launc.processes=1", "train.launc"),
    ],
)  # fmt: skip
def test_a_fault_is_one_recipe_error_with_its_path(word, path):
    with pytest.raises(RecipeError) as caught:
        jobs.check(load("demo", [word]), quiet=True)
    assert path in str(caught.value) and len(str(caught.value)) < 1500


def test_the_built_in_demo_is_good_and_what_was_not_looked_at_is_said(capsys):
    jobs.check(load("demo"))
    assert "demo: ok (curate, train, eval). Not looked at: " in capsys.readouterr().out


def leaves(value: Any, path: str) -> list[str]:
    """Dotted paths of all settings below `value`, lists and mappings themselves included."""
    found = [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, one in inner:
        found += leaves(one, f"{path}.{key}")
    return found


def all_paths() -> list[str]:
    recipe = load(str(ROOT / "pipeline/recipes/demo.yaml"))
    paths = []
    for name, model in SECTIONS.items():
        dumped = recipe.section(name, model).model_dump(mode="json", by_alias=True)
        paths += [path for key, value in dumped.items() for path in leaves(value, f"{name}.{key}")]
    return paths


@pytest.mark.parametrize("value", sampled(HOSTILE, 0, 3, 7, 11))
def test_every_setting_with_a_hostile_value_is_taken_or_refused_in_one_line(value):
    refused = 0
    for path in all_paths():
        try:
            section = path.split(".")[0]
            load("demo", [f"{path}={value}"]).optional(section, SECTIONS[section])
        except RecipeError as error:
            refused += 1
            assert "\n" not in str(error).split("\nhint: ")[0] and len(str(error)) < 1500, path
    assert refused > 50
