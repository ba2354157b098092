"""The recipes of examples/methods: one for each method of the field, and each trains on the demo's data."""

import os
import shutil
import subprocess
import sys

import pytest

from pipeline.recipe import Recipe, built_in, load
from tests.helpers.places import ROOT
from tests.helpers.tiny_run import metrics, train_here
from training.companions import COMPANIONS
from training.plan.presets import PRESETS
from training.settings import TrainSettings
from training.terms import TERMS
from training.terms.targets import TARGETS

FOLDER = ROOT / "examples/methods"
DATA = "told"  # the one that curates
METHODS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != DATA)
SMALLER = (
    "train.batch.global=32", "train.batch.chunk=16", "train.eval.every_steps=null", "train.schedule.warmup_steps=1",
    "train.model.config.embed_dim=48", "train.model.config.vision_cfg.width=48", "train.model.config.text_cfg.width=48",
    "train.model.config.vision_cfg.head_width=16", "train.model.config.vision_cfg.layers=1",
    "train.model.config.text_cfg.layers=1",
)  # fmt: skip


def opened(name: str) -> Recipe:
    return load(str(FOLDER / f"{name}.yaml"))


def kinds_of(settings: TrainSettings) -> set[str]:
    """Of terms, targets, companions and plan; what has its default target aims at one_hot."""
    found = {one.kind for one in settings.companions} | ({settings.preset.kind} if settings.preset else set())
    for term in settings.loss:
        found |= {term.kind} | ({term.target.kind} if hasattr(term, "target") else set())
    return found


def test_each_term_target_companion_and_plan_is_in_a_recipe_of_the_demos_data():
    recipes = [*map(opened, METHODS), *map(load, ["demo", "coca", "reinforced"])]
    found = set().union(*(kinds_of(each.section("train", TrainSettings)) for each in recipes))
    asked = {*TERMS, *TARGETS, *COMPANIONS, *PRESETS} - {"ema"}  # an average is beside any method: training/README.md
    assert found >= asked, asked - found


@pytest.mark.parametrize("name", METHODS)
def test_a_recipe_is_named_as_its_file_and_writes_where_no_other_does(name):
    recipe = opened(name)
    assert recipe.name == name and recipe.data["train"]["output"] == f"runs/{name}/train"
    assert recipe.data["eval"]["output"] == f"runs/{name}/eval"
    assert recipe.data["train"]["data"] in (["runs/demo/data"], [f"runs/{DATA}/data"])
    first = (FOLDER / f"{name}.yaml").read_text().splitlines()[0]
    assert (", 20" in first) and f"`{name}`" in (ROOT / "training/README.md").read_text()
    assert not {path.stem for path in built_in()} & {name}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the recipes expect: the demo's data and a model trained on it, and the data that is told more of."""
    folder = tmp_path_factory.mktemp("methods")
    (folder / "examples").symlink_to(ROOT / "examples")
    for words in (
        ["curate", "demo"],
        ["train", "demo", "train.steps=2", *SMALLER],
        ["export", "runs/demo/train", "runs/demo/model"],
        ["curate", "examples/methods/told.yaml"],
    ):
        code, here = "from pipeline.cli import main; main()", {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", METHODS)
def test_it_trains_on_the_demos_data(folder, name):
    text = (FOLDER / f"{name}.yaml").read_text()
    assert "base: demo\n" in text
    recipe = folder / f"{name}.yaml"
    recipe.write_text(text.replace("runs/", f"{folder}/runs/"))
    where = [f"train.data=[{folder}/runs/{DATA if f'runs/{DATA}' in text else 'demo'}/data]", "eval=null"]
    output = folder / "runs" / name / "train"
    assert train_here(recipe, 2, *SMALLER, *where, "train.steps=3") == ["", ""]
    rows = metrics(output)
    assert len(rows) == 3 and all(0 < row["loss"] < 100 for row in rows)
    shutil.rmtree(output)
