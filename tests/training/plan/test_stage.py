"""What a stage says otherwise, merged into the section it stands in."""

import pytest

from pipeline.errors import RecipeError
from training.plan.stage import Stage, merged


def test_sections_are_merged_and_another_kind_replaces() -> None:
    base = {"steps": 3, "optimizer": {"kind": "adamw", "lr": 1, "eps": 2}, "model": {"config": {"a": {"b": 1, "c": 2}}}}
    assert merged(base, {"optimizer": {"lr": 5}})["optimizer"] == {"kind": "adamw", "lr": 5, "eps": 2}
    assert merged(base, {"optimizer": {"kind": "adamw", "lr": 5}})["optimizer"]["eps"] == 2
    assert merged(base, {"optimizer": {"kind": "lion"}})["optimizer"] == {"kind": "lion"}
    assert merged(base, {"model": {"config": {"a": {"b": 7}}}})["model"] == {"config": {"a": {"b": 7, "c": 2}}}
    assert merged(base, {"batch": {"global": 3}}) == base | {"batch": {"global": 3}}
    assert base["optimizer"] == {"kind": "adamw", "lr": 1, "eps": 2}


@pytest.mark.parametrize("section", [{"model": {"name": "x"}}, {"engine": {"zero_stage": 2}}, {"image": {"resize": 1}}])
def test_what_may_not_change_within_a_run_is_refused(section) -> None:
    (key,) = section
    with pytest.raises(RecipeError, match=rf"train.stages.1.{key}.*may not change"):
        Stage(until=3, **section).changes("train.stages.1")


def test_only_what_is_said_changes() -> None:
    assert Stage(until=3, batch={"global": 4}).changes("") == {"batch": {"global": 4}}
    assert Stage(until=3).changes("") == {}
