"""Resized grids are torch's interpolation, open_clip's and timm's; stretched texts are Long-CLIP's."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from training.surgery.positions import resized_grid, stretched


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1), st.integers(1, 3))
def test_a_grid_is_resized_as_torch_interpolates_and_what_stands_before_it_is_kept(old, new, front, width) -> None:
    positions = torch.randn(front + old * old, width)
    got = resized_grid(positions, front + new * new)
    assert torch.equal(got[:front], positions[:front]) and got.shape == (front + new * new, width)
    picture = positions[front:].T.reshape(1, width, old, old)
    wanted = F.interpolate(picture, size=(new, new), mode="bicubic", antialias=True)
    if old != new:
        assert torch.allclose(got[front:], wanted.reshape(width, -1).T, atol=1e-6)
    else:
        assert got is positions


@pytest.mark.parametrize(("old", "new"), [(7, 14), (14, 7), (16, 24)])
def test_open_clip_and_timm_resize_alike(old: int, new: int) -> None:
    from open_clip.model import resize_pos_embed
    from timm.layers import resample_abs_pos_embed

    positions = torch.randn(1 + old * old, 8)

    class Model:
        class visual:
            grid_size = (new, new)

    state = {"visual.positional_embedding": positions}
    Model.visual.positional_embedding = torch.zeros(1 + new * new, 8)
    resize_pos_embed(state, Model)
    ours = resized_grid(positions, 1 + new * new)
    assert torch.allclose(ours, state["visual.positional_embedding"], atol=1e-6)
    theirs = resample_abs_pos_embed(positions[None], [new, new], [old, old], num_prefix_tokens=1)
    assert torch.allclose(ours, theirs[0], atol=1e-6)


def test_registers_are_kept_and_what_is_no_grid_is_refused() -> None:
    positions = torch.randn(5 + 16, 2)
    assert torch.equal(resized_grid(positions, 5 + 36)[:5], positions[:5])
    with pytest.raises(RecipeError, match="6 and 8 positions"):
        resized_grid(torch.randn(6, 2), 8)


def test_77_tokens_become_the_248_of_long_clip() -> None:
    positions = torch.randn(77, 4, dtype=torch.float64)
    wanted = [*positions[:20]]
    for at in range(20, 76):
        wanted += [positions[at] * (1 - k / 4) + positions[at + 1] * k / 4 for k in range(4)]
    wanted += [positions[76] + (positions[76] - positions[75]) * k / 4 for k in range(4)]
    assert torch.allclose(stretched(positions, 248, "keep_first"), torch.stack(wanted))


@pytest.mark.parametrize("mode", ["keep_first", "interpolate"])
def test_what_is_on_a_line_stays_on_it(mode: str) -> None:
    line = torch.arange(30, dtype=torch.float64)[:, None]
    got = stretched(line, 75, mode)[:, 0]
    kept = 20 if mode == "keep_first" else 0
    slope = (30 - kept) / (75 - kept)
    assert torch.allclose(got[kept:], kept + slope * torch.arange(75 - kept, dtype=torch.float64))
    assert torch.equal(got[:kept], line[:kept, 0])


def test_fewer_tokens_are_the_first_ones_and_as_many_are_the_same() -> None:
    positions = torch.randn(30, 4)
    for mode in ("keep_first", "interpolate"):
        assert torch.equal(stretched(positions, 7, mode), positions[:7])
        assert torch.equal(stretched(positions, 30, mode), positions)
    short = torch.randn(8, 2)
    assert torch.equal(stretched(short, 20, "keep_first")[:6], short[:6])
    assert not math.isnan(stretched(short, 20, "keep_first").sum().item())
    with pytest.raises(RecipeError, match="at least 2"):
        stretched(torch.randn(1, 2), 4, "keep_first")
