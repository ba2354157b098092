"""Settings that differ: stages are met by kind, so that one more moves none."""

import yaml

from pipeline.report.compared.settings import differing, recipe_of


def recipe(*stages: dict, **curate) -> dict:
    return {"name": "x", "curate": {"stages": list(stages), "output": "somewhere", **curate}}


def test_a_stage_more_and_a_threshold_are_two_differences():
    a = recipe({"kind": "opt_out"}, {"kind": "threshold", "min": 1}, {"kind": "threshold", "min": 5})
    b = recipe({"kind": "threshold", "min": 1}, {"kind": "threshold", "min": 7}, output="elsewhere")
    assert [(each.path, each.before, each.now) for each in differing(a, b)] == [
        ("curate.stages.threshold-2.min", 5, 7),
        ("curate.stages.opt_out", {"kind": "opt_out"}, "(not set)"),
    ]


def test_a_recipe_that_cannot_be_read_is_none(tmp_path):
    (tmp_path / "recipe.yaml").write_text("{")
    assert recipe_of([str(tmp_path)]) == {}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"name": "me"}))
    assert recipe_of([str(tmp_path / "nothing"), str(tmp_path)]) == {"name": "me"}
