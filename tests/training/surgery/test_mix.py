"""Averages are those of arithmetic; a swapped tower is the other model's."""

import pytest
import torch

from pipeline.errors import RecipeError
from tests.training.surgery.test_fit import TEXTS, towers
from training.surgery.mix import averaged, ema_weights, from_open_clip, swapped


def states(count: int) -> list[dict[str, torch.Tensor]]:
    return [{"a": torch.randn(3, 2), "b": torch.randn(1), "n": torch.tensor(number)} for number in range(count)]


@pytest.mark.parametrize("weights", [None, [0.5, 0.25, 0.25], ema_weights(3, 0.9)])
def test_the_mean_is_weighted_and_whole_numbers_are_the_last(weights) -> None:
    given = states(3)
    mean = averaged(given, weights)
    shares = weights or [1 / 3] * 3
    for name in ("a", "b"):
        wanted = sum(state[name].double() * share for state, share in zip(given, shares, strict=True))
        assert torch.equal(mean[name], wanted.float())
    assert mean["n"] == 2


def test_ema_weights_are_those_of_a_moving_average() -> None:
    value, values = None, [3.0, -1.0, 4.0, 1.5]
    for one in values:
        value = one if value is None else 0.8 * value + 0.2 * one
    assert sum(w * v for w, v in zip(ema_weights(4, 0.8), values, strict=True)) == pytest.approx(value)
    assert ema_weights(1, 0.8) == [1.0]


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(RecipeError, match="add up to 1.5"):
        averaged(states(2), [0.5, 1.0])
    with pytest.raises(RecipeError, match="1 weights"):
        averaged(states(2), [1.0])
    with pytest.raises(RecipeError, match="lacks 1 tensors"):
        averaged([{"a": torch.zeros(1)}, {"b": torch.zeros(1)}])
    with pytest.raises(RecipeError, match="no weights"):
        averaged([])


def test_a_tower_comes_whole_from_the_other_model_and_nothing_else_does() -> None:
    one, other = towers(0), towers(5)
    mixed = towers(7)
    mixed.load_state_dict(swapped(one.state_dict(), other.state_dict(), "image"))
    pictures = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        rows = {"image": pictures, "tokens": mixed.tokenize(TEXTS)}
        found = mixed(rows)
        assert torch.equal(found["image"], other(rows)["image"])
        assert torch.equal(found["text"], one(rows)["text"])
    with pytest.raises(RecipeError, match=r"the image tower to take .* 1 of another shape"):
        swapped(one.state_dict(), towers(0, side=16).state_dict(), "image")


@pytest.mark.parametrize("custom", [False, True])
def test_open_clips_names_become_ours(custom: bool) -> None:
    one = towers(3)
    one.config["custom_text"] = custom
    native = one.native_state_dict()
    back = from_open_clip(native)
    state = one.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) and back[name].shape == state[name].shape for name in state)


def test_the_decoder_of_a_coca_keeps_its_weights() -> None:
    native = {f"{part}.x": torch.randn(1) for part in ("visual", "text", "text_decoder")}
    ours = from_open_clip(native)
    assert {name: native[f"{other}.x"] for name, other in
            (("image.x", "visual"), ("text.x", "text"), ("decoder.x", "text_decoder"))} == ours  # fmt: skip
