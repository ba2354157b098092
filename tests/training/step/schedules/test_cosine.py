import pytest

from training.step.schedules.cosine import Cosine


def test_cosine_is_half_way_down_in_the_middle_and_ends_at_the_fraction() -> None:
    settings = Cosine(warmup_steps=10, final_fraction=0.1)
    assert settings.lr_at(60, 1.0, 110) == pytest.approx(0.55)
    assert settings.lr_at(35, 1.0, 110) == pytest.approx(0.1 + 0.9 * 0.8535533905932737)
    assert settings.lr_at(110, 1.0, 110) == pytest.approx(0.1)
    assert settings.lr_at(500, 1.0, 110) == pytest.approx(0.1), "steps past the end stay there"
