import pytest

from training.step.schedules.inverse_sqrt import InverseSqrt


def test_it_falls_as_the_root_of_the_step_whatever_the_length() -> None:
    settings = InverseSqrt(warmup_steps=100)
    assert settings.lr_at(400, 2.0, 10) == settings.lr_at(400, 2.0, 10**9) == pytest.approx(1.0)
    assert InverseSqrt(timescale=50).lr_at(150, 2.0, 10**6) == pytest.approx(1.0)


def test_it_cools_down_to_zero() -> None:
    settings = InverseSqrt(warmup_steps=100, cooldown_steps=200)
    assert settings.lr_at(400, 2.0, 600) == pytest.approx(1.0)
    assert settings.lr_at(400, 2.0, 500) == pytest.approx(0.5)
    assert settings.lr_at(500, 2.0, 500) == settings.lr_at(501, 2.0, 500) == 0.0
