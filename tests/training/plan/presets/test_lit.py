from tests.training.plan.test_plan import planned


def test_the_image_tower_is_locked_for_the_whole_run_or_a_share_of_it() -> None:
    assert [one.model.lock_image for one in planned(preset={"kind": "lit"}).plan.every] == [True]
    plan = planned(preset={"kind": "lit", "share": 0.5}).plan
    assert [one.model.lock_image for one in plan.every] == [True, False]
    assert [stage.until for stage in plan.stages] == [15, 30] and plan.stages[1].moments == "fresh"
