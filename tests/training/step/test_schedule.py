"""The schedule: warm-up reaches the peak, the end is where it was asked to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from training.step.schedule import ScheduleSettings, lr_at


def test_warm_up_is_linear_to_the_peak_and_never_zero() -> None:
    settings = ScheduleSettings(warmup_steps=4)
    assert [lr_at(step, settings, 8.0, 100) for step in range(5)] == [2.0, 4.0, 6.0, 8.0, 8.0]


def test_cosine_is_half_way_down_in_the_middle_and_ends_at_the_fraction() -> None:
    settings = ScheduleSettings(warmup_steps=10, final_fraction=0.1)
    assert lr_at(60, settings, 1.0, 110) == pytest.approx(0.55)
    assert lr_at(110, settings, 1.0, 110) == pytest.approx(0.1)
    assert lr_at(500, settings, 1.0, 110) == pytest.approx(0.1), "steps past the end stay there"


def test_constant_stays_and_cools_down_linearly() -> None:
    settings = ScheduleSettings(kind="constant", cooldown_steps=10)
    assert lr_at(50, settings, 2.0, 100) == 2.0
    assert lr_at(95, settings, 2.0, 100) == pytest.approx(1.0)
    assert lr_at(50, ScheduleSettings(kind="constant"), 2.0, 100) == lr_at(
        99, ScheduleSettings(kind="constant"), 2.0, 100
    )


@given(
    st.sampled_from(["cosine", "constant"]),
    st.integers(0, 50),
    st.integers(0, 50),
    st.floats(0, 1),
    st.integers(1, 200),
)
def test_it_never_leaves_zero_to_peak_and_never_rises_after_warm_up(kind, warmup, cooldown, final, steps) -> None:
    settings = ScheduleSettings(kind=kind, warmup_steps=warmup, cooldown_steps=cooldown, final_fraction=final)
    rates = [lr_at(step, settings, 3.0, steps) for step in range(steps + 5)]
    assert all(0 <= rate <= 3.0 for rate in rates)
    after = rates[warmup:]
    assert all(b <= a + 1e-12 for a, b in zip(after, after[1:], strict=False))


def test_a_wrong_knob_is_refused() -> None:
    with pytest.raises(ValidationError, match="warm_up"):
        ScheduleSettings(warm_up=3)
