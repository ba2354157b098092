"""Overrides reach any setting by its path; a path that leads nowhere is one RecipeError; moved settings are found."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.recipe import load
from pipeline.recipe.overrides import apply


@pytest.mark.parametrize(
    "word",
    ["curate.sources.²=1", "curate.sources.-1=1", "curate.sources.9=1", "curate.sources.x=1", "a", "=1", ".a=1",
     "a..b=1", "a.=1", "curate.sources.0.paths.0.x=1", "seed=[", "seed=*x",
     "seed=!!int a", f"curate.sources.{'9' * 20}=1"],
)  # fmt: skip
def test_an_override_that_leads_nowhere_is_one_recipe_error(word):
    with pytest.raises(RecipeError) as caught:
        load("demo", [word])
    assert "\n" not in str(caught.value).split("\nhint: ")[0]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_word_sets_a_value_or_is_a_recipe_error(path, value):
    data = {"curate": {"sources": [{"kind": "warc"}]}}
    try:
        apply(data, f"{path}={value}")
    except RecipeError:
        pass


def test_launch_of_earlier_recipes_is_found_in_its_new_place(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump({"train": {"steps": 3, "launch": {"processes": 2}}, "eval": {"launch": None}}))
    recipe = load(str(path))
    assert recipe.data == {"train": {"steps": 3}, "eval": {}, "launch": {"processes": 2}}
    assert load(str(path), ["train.launch.threads=4"]).data["launch"] == {"processes": 2, "threads": 4}
    assert load("demo", ["train.launch.processes=1"]).data["launch"] == {"processes": 1, "threads": 1}


def test_two_different_launch_sections_are_refused(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump({"launch": {"processes": 1}, "train": {"launch": {"processes": 2}}}))
    with pytest.raises(RecipeError, match="train.launch is .* and launch is"):
        load(str(path))
