import pytest

from training.step.schedules.constant import Constant


def test_constant_stays_and_cools_down_linearly() -> None:
    settings = Constant(cooldown_steps=10, final_fraction=0.2)
    assert settings.lr_at(50, 2.0, 100) == settings.lr_at(90, 2.0, 100) == 2.0
    assert settings.lr_at(95, 2.0, 100) == pytest.approx(1.2)
    assert settings.lr_at(100, 2.0, 100) == settings.lr_at(300, 2.0, 100) == pytest.approx(0.4)
    assert Constant().lr_at(50, 2.0, 100) == Constant().lr_at(99, 2.0, 100) == 2.0
