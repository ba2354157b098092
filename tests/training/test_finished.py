"""A finished run: the same recipe has nothing to do; another one is told what differs, never "already finished"."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.datasets import make_dataset
from tests.helpers.lanes import sampled
from tests.helpers.reinforced import settings_of, weights, write
from tests.helpers.tiny_run import metrics, run, train_here, write_recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 steps that is through, its recipe and its data."""
    folder = tmp_path_factory.mktemp("finished")
    assert train_here(write_recipe(folder, steps=4, schedule={"kind": "constant"}), 1) == [""]
    return folder


def said(home: Path, *overrides: str) -> str:
    (words,) = train_here(home / "recipe.yaml", 1, *overrides)
    assert len(metrics(home / "train")) == 4
    return words


def test_the_same_recipe_is_done_at_once(home: Path) -> None:
    assert said(home) == ""


@pytest.mark.parametrize(
    ("override", "path"),
    sampled(
        [
            ("train.optimizer.lr=0.001", "train.optimizer.lr"),
            ("train.schedule.warmup_steps=1", "train.schedule.warmup_steps"),
            ("train.optimizer.weight_decay=0.5", "train.optimizer.weight_decay"),
            ("train.image.resize=pad", "train.image.resize"),
            ("train.reader.window=16", "train.reader.window"),
            ("train.batch.global=8", "train.batch.global"),
            ("train.model.config.vision_cfg.layers=2", "train.model.config.vision_cfg.layers"),
            ("train.steps=2", "train.steps: 4 -> 2"),
            ("seed=8", "seed: 7 -> 8"),
        ],
        0,
        3,
        5,
        8,
    ),
)
def test_a_recipe_that_trains_otherwise_is_refused_by_its_path(home: Path, override: str, path: str) -> None:
    words = said(home, override)
    assert words.startswith("RecipeError") and "is finished, but by another recipe" in words and path in words
    assert "train.output" in words and "train.fresh=true" in words


def test_other_data_are_refused_and_the_same_data_elsewhere_are_not(home: Path, tmp_path: Path) -> None:
    make_dataset(str(tmp_path / "other"), shards=3, pairs=31)
    words = said(home, f"train.data=[{tmp_path / 'other'}]")
    assert words.startswith("RecipeError") and "train.data: dataset " in words
    shutil.copytree(home / "data", tmp_path / "moved")
    assert said(home, f"train.data=[{tmp_path / 'moved'}]") == ""


@pytest.mark.exhaustive
def test_a_changed_set_of_stored_vectors_is_refused_and_the_same_set_is_not(tmp_path: Path) -> None:
    """Nothing in the recipe tells them apart: the set of that name was written anew, with other views."""
    given = {"companions": [{"kind": "stored", "set": "dr"}], "loss": [{"kind": "softmax"}, DISTILLED]}
    recipe = write_recipe(tmp_path, steps=2, schedule={"kind": "constant"}, **given)
    teachers = [{"model": weights(tmp_path)}]
    write(settings_of(tmp_path, teachers=teachers))
    assert train_here(recipe, 1) == [""] and train_here(recipe, 1) == [""]
    moved = shutil.move(tmp_path / "data/reinforced/dr", tmp_path / "before")
    write(settings_of(tmp_path, teachers=teachers, views=2))
    (words,) = train_here(recipe, 1)
    assert (
        words.startswith("RecipeError")
        and "is finished, but by another recipe: train.companions: stored: set " in words
    )
    shutil.rmtree(tmp_path / "data/reinforced/dr")
    shutil.move(moved, tmp_path / "data/reinforced/dr")
    assert train_here(recipe, 1) == [""]


DISTILLED = {"kind": "feature_distill", "of": "text"}


@pytest.mark.parametrize(
    "override",
    sampled(
        ["train.engine.zero_stage=3", "train.batch.chunk=8", "train.checkpoint.every_steps=1", "launch.threads=2"], 0, 2
    ),
)
def test_what_changes_nothing_that_is_learnt_is_no_difference(home: Path, override: str) -> None:
    assert said(home, override) == ""


def test_more_steps_go_on_from_the_end(home: Path) -> None:
    shutil.copytree(home / "train", home / "longer")
    assert train_here(home / "recipe.yaml", 1, f"train.output={home / 'longer'}", "train.steps=6") == [""]
    assert [row["step"] for row in metrics(home / "longer")] == list(range(6))


@pytest.mark.exhaustive
def test_the_command_ends_with_the_code_of_a_wrong_recipe(home: Path) -> None:
    code, words = run(home / "recipe.yaml", "train.optimizer.lr=0.001")
    assert code == 2 and "train.optimizer.lr: 0.003 -> 0.001" in words
