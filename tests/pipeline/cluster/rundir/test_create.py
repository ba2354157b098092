"""A run directory is made by one recipe, found again by the same one, and never turned into another by accident."""

import json

import pytest
import yaml

from pipeline.cluster.rundir import control, create, frozen, open_run
from pipeline.cluster.rundir.create import versions
from pipeline.errors import RecipeError, UsageError
from pipeline.recipe import load


def recipe_at(tmp_path, text="train: {data: [a], steps: 3}\n", words=()):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load(str(path), list(words))


def test_the_recipe_is_frozen_with_its_overrides_variables_and_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    text = "curate: {sources: [{path: '${DATA}/x'}]}\ntrain: {steps: 3}\neval: {output: elsewhere}\n"
    run = create(tmp_path / "r", recipe_at(tmp_path, text, ["train.steps=7"]))
    monkeypatch.setenv("DATA", "/other")
    found = yaml.safe_load(run.recipe.read_text())
    assert found == {
        "name": "mine",
        "curate": {"sources": [{"path": "/data/x"}], "output": str(tmp_path / "r/curate")},
        "train": {"steps": 7, "output": str(tmp_path / "r/train"), "data": [str(tmp_path / "r/curate")]},
        "eval": {"output": "elsewhere"},
    }
    assert load(str(run.recipe)).data == found


def test_what_computes_is_written_down(tmp_path):
    run = create(tmp_path / "r", recipe_at(tmp_path))
    about = json.loads(run.about.read_text())
    assert about["run"] == "r" and about["packages"]["numpy"] and about["python"].count(".") == 2
    assert about["git"] == versions()["git"]


def test_the_same_recipe_finds_the_run_and_takes_a_users_stop_away(tmp_path):
    first = create(tmp_path / "r", recipe_at(tmp_path))
    before = first.recipe.read_bytes()
    for word in ("stop", "save"):
        control.ask(first, word)
    assert create(tmp_path / "r", recipe_at(tmp_path)) == first == open_run(tmp_path / "r")
    assert first.recipe.read_bytes() == before and not list(first.control.iterdir())


def test_another_recipe_is_refused_unless_it_is_said(tmp_path):
    create(tmp_path / "r", recipe_at(tmp_path))
    other = recipe_at(tmp_path, words=["train.steps=9"])
    with pytest.raises(RecipeError, match=r"train.steps: 3 -> 9.*\n.*--new-recipe"):
        create(tmp_path / "r", other)
    run = create(tmp_path / "r", other, new_recipe=True)
    assert yaml.safe_load(run.recipe.read_text())["train"]["steps"] == 9


def test_a_cancelled_run_is_refused_unless_it_is_said(tmp_path):
    run = create(tmp_path / "r", recipe_at(tmp_path))
    control.ask(run, "cancel")
    with pytest.raises(UsageError, match="was cancelled"):
        create(tmp_path / "r", recipe_at(tmp_path))
    create(tmp_path / "r", recipe_at(tmp_path), uncancel=True)
    assert control.held(run) == ""


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="is no run directory"):
        create(tmp_path / "r", recipe_at(tmp_path))
    with pytest.raises(UsageError, match="submit RECIPE"):
        open_run(tmp_path / "r")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["thesis.tex"]


def test_outputs_that_lie_there_already_are_no_hindrance(tmp_path):
    """`clipmill run RECIPE` came first, and left its outputs where the run directory is to be."""
    (tmp_path / "r/train").mkdir(parents=True)
    create(tmp_path / "r", recipe_at(tmp_path, words=[f"train.output={tmp_path / 'r/train'}"]))


def test_freezing_leaves_the_recipe_itself_as_it_was(tmp_path):
    recipe = recipe_at(tmp_path)
    frozen(recipe, tmp_path / "r")
    assert "output" not in recipe.data["train"]
