"""What all schedules have in common: the warm-up reaches the peak, nothing leaves zero to peak or rises again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from training.step.schedule import lr_at
from training.step.schedules import SCHEDULES
from training.step.schedules.cosine import Cosine


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warm_up_is_linear_to_the_peak_and_never_zero(kind: str) -> None:
    rates = [lr_at(step, SCHEDULES[kind](warmup_steps=4), 8.0, 100) for step in range(5)]
    assert rates == [2.0, 4.0, 6.0, 8.0, 8.0]


_END = st.floats(0, 1)
_ANY = st.one_of(
    st.builds(dict, kind=st.just("cosine"), final_fraction=_END),
    st.builds(dict, kind=st.just("constant"), final_fraction=_END, cooldown_steps=st.integers(0, 50)),
    st.builds(dict, kind=st.just("wsd"), final_fraction=_END, decay_steps=st.integers(1, 99),
              shape=st.sampled_from(["linear", "sqrt", "cosine"])),
    st.builds(dict, kind=st.just("wsd"), decay_share=st.floats(0.01, 1),
              shape=st.sampled_from(["linear", "sqrt", "cosine"])),
    st.builds(dict, kind=st.just("inverse_sqrt"), timescale=st.none() | st.integers(1, 99),
              cooldown_steps=st.integers(0, 50)),
)  # fmt: skip


@given(_ANY, st.integers(0, 50), st.integers(1, 200))
def test_it_never_leaves_zero_to_peak_and_never_rises_after_warm_up(made, warmup, steps) -> None:
    schedule = SCHEDULES[made["kind"]](warmup_steps=warmup, **made)
    rates = [lr_at(step, schedule, 3.0, steps) for step in range(steps + 5)]
    assert all(0 <= rate <= 3.0 + 1e-12 for rate in rates)
    after = rates[warmup:]
    assert all(b <= a + 1e-12 for a, b in zip(after, after[1:], strict=False))


def test_a_wrong_knob_is_refused() -> None:
    with pytest.raises(ValidationError, match="warm_up"):
        Cosine(warm_up=3)
    with pytest.raises(ValidationError, match="cooldown"):
        Cosine(cooldown_steps=3)
