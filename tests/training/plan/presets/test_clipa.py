import pytest

from pipeline.errors import RecipeError
from tests.training.plan.test_plan import planned
from training.plan.presets.clipa import Clipa


def test_small_pictures_and_short_texts_then_full_size_at_a_lower_rate() -> None:
    plan = planned(preset={"kind": "clipa", "image_size": 64, "context_length": 8, "share": 0.8, "tuning_lr": 0.2}).plan
    assert [stage.until for stage in plan.stages] == [24, 30]
    small, full = plan.every
    assert (small.model.image_size, small.model.context_length) == (64, 8)
    assert (full.model.image_size, full.model.context_length) == (None, None)
    assert plan.lr_at(27) == full.schedule.lr_at(3, 0.1, 6) and plan.lr_at(5) == small.schedule.lr_at(5, 0.5, 24)


def test_both_stages_have_a_step() -> None:
    assert [stage.until for stage in Clipa(share=0.01).made(5, 1.0)] == [1, 5]
    assert [stage.until for stage in Clipa(share=0.99).made(5, 1.0)] == [4, 5]
    with pytest.raises(RecipeError, match="at least 2"):
        Clipa().made(1, 1.0)
