import pytest
from pydantic import ValidationError

from training.step.schedules.wsd import WarmupStableDecay


@pytest.mark.parametrize(("shape", "quarter"), [("linear", 0.75), ("sqrt", 0.5), ("cosine", 0.8535533905932737)])
def test_it_is_stable_then_decays_in_its_shape(shape: str, quarter: float) -> None:
    for settings in (WarmupStableDecay(decay_steps=40, shape=shape), WarmupStableDecay(decay_share=0.2, shape=shape)):
        assert {settings.lr_at(step, 2.0, 200) for step in range(161)} == {2.0}
        assert settings.lr_at(170, 2.0, 200) == pytest.approx(2 * quarter)
        assert settings.lr_at(200, 2.0, 200) == settings.lr_at(999, 2.0, 200) == pytest.approx(0, abs=1e-15)
    ending = WarmupStableDecay(decay_steps=40, shape=shape, final_fraction=0.1)
    assert ending.lr_at(170, 2.0, 200) == pytest.approx(2 * (0.1 + 0.9 * quarter))


def test_a_checkpoint_before_the_decay_goes_on_to_any_length() -> None:
    settings = WarmupStableDecay(warmup_steps=5)
    for longer in (200, 1000, 10**9):
        assert all(settings.lr_at(step, 1.0, 100) == settings.lr_at(step, 1.0, longer) for step in range(81))


def test_the_length_is_given_once() -> None:
    with pytest.raises(ValidationError, match="one of decay_steps and decay_share"):
        WarmupStableDecay(decay_steps=4, decay_share=0.1)
