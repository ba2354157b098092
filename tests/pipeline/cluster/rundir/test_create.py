"""A run directory is made by one recipe, found again by the same one, and never turned into another by accident."""

import functools
import json
import multiprocessing
import os
import subprocess
import sys

import pytest
import yaml

from pipeline.cluster.rundir import control, create, frozen, open_run
from pipeline.cluster.rundir.create import versions
from pipeline.errors import RecipeError, StorageError, UsageError
from pipeline.recipe import digest, load


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


def test_teachers_look_at_what_curation_has_made_and_have_no_folder_of_their_own(tmp_path):
    text = "curate: {sources: []}\nreinforce: {set: s}\ntrain: {steps: 3}\n"
    found = yaml.safe_load(create(tmp_path / "r", recipe_at(tmp_path, text)).recipe.read_text())
    assert found["reinforce"] == {"set": "s", "data": [str(tmp_path / "r/curate")]}


def test_what_computes_is_written_down(tmp_path):
    run = create(tmp_path / "r", recipe_at(tmp_path))
    about = json.loads(run.about.read_text())
    assert about["run"] == "r" and about["packages"]["numpy"] and about["python"].count(".") == 2
    assert about["git"] == versions()["git"]


def test_the_revision_is_that_of_the_checkout_or_what_the_image_says(tmp_path, monkeypatch):
    module = sys.modules["pipeline.cluster.rundir.create"]
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    assert versions({"CLIPMILL_REVISION": "abc123"})["git"] == head  # an image's word is not about what is mounted
    monkeypatch.setattr(module, "_ROOT", tmp_path / "site-packages")
    found = [versions(each)["git"] for each in ({"CLIPMILL_REVISION": "abc123"}, {"CLIPMILL_REVISION": "unknown"}, {})]
    assert found == ["abc123", None, None]
    monkeypatch.setenv("CLIPMILL_REVISION", "abc123")
    assert json.loads(create(tmp_path / "r", recipe_at(tmp_path)).about.read_text())["git"] == "abc123"


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


def raced(runs: int, make) -> list[object]:
    """What each of so many processes that begin at once got: a digest of all that it found, or the error's words."""
    ready = multiprocessing.get_context("fork").Barrier(runs)
    answers = multiprocessing.get_context("fork").SimpleQueue()

    def one(number: int) -> None:
        ready.wait()
        try:
            run = make(number)
            found = [(name, (run.path / name).read_bytes().hex()) for name in ("run.yaml", "run.json")]
            answers.put(("made", found, run.control.is_dir() and run.logs.is_dir()))
        except Exception as error:
            answers.put((type(error).__name__, str(error)))

    children = [multiprocessing.get_context("fork").Process(target=one, args=(number,)) for number in range(runs)]
    for child in children:
        child.start()
    found = [answers.get() for _ in children]
    for child in children:
        child.join()
    return found


@pytest.mark.parametrize("outputs", [False, True], ids=["nothing there", "outputs there"])
def test_processes_that_make_one_run_at_once_all_have_the_same(tmp_path, outputs):
    """`clipmill submit --dry-run`, as every element of an array types it."""
    for number in range(4):
        words = [f"train.output={tmp_path}/r{number}/train"] if outputs else []
        recipe = recipe_at(tmp_path, words=words)
        if outputs:
            (tmp_path / f"r{number}/train").mkdir(parents=True)
        found = raced(6, lambda _, recipe=recipe, number=number: create(tmp_path / f"r{number}", recipe))
        assert found == [found[0]] * 6 and found[0][0] == "made" and found[0][2]
    assert {path.name for path in tmp_path.iterdir()} == {"mine.yaml", *(f"r{number}" for number in range(4))}


@pytest.mark.parametrize("outputs", [False, True], ids=["nothing there", "outputs there"])
def test_of_two_recipes_that_make_one_run_at_once_one_has_it_and_the_other_is_told(tmp_path, outputs):
    for number in range(4):
        words = [f"train.output={tmp_path}/r{number}/train"] if outputs else []
        recipes = [recipe_at(tmp_path, words=[*words, f"train.steps={steps}"]) for steps in (5, 7)]
        if outputs:
            (tmp_path / f"r{number}/train").mkdir(parents=True)
        make = functools.partial(create, tmp_path / f"r{number}")
        found = sorted(raced(2, lambda which, recipes=recipes, make=make: make(recipes[which])))
        assert [each[0] for each in found] == ["RecipeError", "made"]
        steps = yaml.safe_load((tmp_path / f"r{number}/run.yaml").read_text())["train"]["steps"]
        about = json.loads((tmp_path / f"r{number}/run.json").read_text())
        assert f"train.steps: {steps} -> {12 - steps}" in found[0][1]
        assert about["recipe_digest"] == digest(load(str(tmp_path / f"r{number}/run.yaml")))


def test_another_that_comes_between_two_looks_is_found(tmp_path, monkeypatch):
    recipe = recipe_at(tmp_path)
    (tmp_path / "r").mkdir()

    def others(run, wanted):
        monkeypatch.undo()
        create(tmp_path / "r", recipe)
        return sorted(path.name for path in run.path.iterdir())

    monkeypatch.setattr(sys.modules["pipeline.cluster.rundir.create"], "_others", others)
    before = create(tmp_path / "r", recipe).recipe.stat()
    assert before.st_nlink == 1 and load(str(tmp_path / "r/run.yaml")).data["train"]["steps"] == 3


def test_a_run_made_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "r/train").mkdir(parents=True)
    run = create(tmp_path / "r", recipe_at(tmp_path, words=[f"train.output={tmp_path / 'r/train'}"]))
    assert run.recipe.exists() and run.about.exists()


def test_a_disk_that_takes_nothing_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(StorageError, match="no space left"):
        create(tmp_path / "r", recipe_at(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_freezing_leaves_the_recipe_itself_as_it_was(tmp_path):
    recipe = recipe_at(tmp_path)
    frozen(recipe, tmp_path / "r")
    assert "output" not in recipe.data["train"]
