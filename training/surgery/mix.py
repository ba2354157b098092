"""Weights averaged over checkpoints, and towers taken from another model. On state dicts with the names of Towers."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.errors import RecipeError

State = Mapping[str, Tensor]
_SUM = 1e-6
WHERE = "model surgery"


def averaged(states: Sequence[State], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The weighted mean of every tensor (default: each alike), added in float64; whole numbers are the last state's.

    Running statistics of batch normalisation are averaged too (Izmailov et al., 2018, would measure them anew).
    RecipeError: no states, other names or shapes, weights that do not add up to 1.
    """
    if not states:
        raise RecipeError(WHERE, "no weights to average", "at least one checkpoint")
    shares = [1 / len(states)] * len(states) if weights is None else list(weights)
    if len(shares) != len(states) or abs(sum(shares) - 1) > _SUM:
        found = f"{len(shares)} weights that add up to {sum(shares):g}"
        raise RecipeError(WHERE, found, f"{len(states)} that add up to 1")
    for number, state in enumerate(states[1:], 1):
        _same(states[0], state, f"checkpoint {number} of {len(states)}")
    mean: dict[str, Tensor] = {}
    for name, last in states[-1].items():
        if not last.is_floating_point():
            mean[name] = last
            continue
        total = torch.zeros(last.shape, dtype=torch.float64)
        for state, share in zip(states, shares, strict=True):
            total.add_(state[name], alpha=share)
        mean[name] = total.to(last.dtype)
    return mean


def ema_weights(count: int, decay: float) -> list[float]:
    """The weights that a moving average would give `count` checkpoints, oldest first: they add up to 1."""
    newer = [(1 - decay) * decay ** (count - 1 - number) for number in range(1, count)]
    return [decay ** (count - 1), *newer]


def swapped(state: State, other: State, tower: Literal["image", "text"]) -> dict[str, Tensor]:
    """`state` with the tower of `other`. RecipeError with the difference when it is of another architecture."""
    ours, theirs = (_of(one, tower) for one in (state, other))
    _same(ours, theirs, f"the {tower} tower to take")
    return {name: theirs.get(name, tensor) for name, tensor in state.items()}


def _of(state: State, tower: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(f"{tower}.")}


def _same(first: State, other: State, what: str) -> None:
    lacking, foreign = sorted(first.keys() - other.keys()), sorted(other.keys() - first.keys())
    shaped = [name for name in first if name in other and first[name].shape != other[name].shape]
    if lacking or foreign or shaped:
        found = f"{what} lacks {len(lacking)} tensors {lacking[:3]}, adds {len(foreign)} {foreign[:3]} and has "
        found += f"{len(shaped)} of another shape {shaped[:3]}"
        raise RecipeError(WHERE, found, "the same architecture")


def from_open_clip(native: State) -> dict[str, Tensor]:
    """Weights under open_clip's names (either of its classes), under those of Towers."""
    return {_own_name(name): tensor.reshape(1) if tensor.ndim == 0 and "logit" in name else tensor
            for name, tensor in native.items()}  # fmt: skip


def _own_name(name: str) -> str:
    name = name.removeprefix("module.")
    if name in ("logit_scale", "logit_bias"):
        return {"logit_scale": "log_scale", "logit_bias": "bias"}[name]
    if name.startswith("visual."):
        return "image." + name.removeprefix("visual.")
    if name.startswith("text_decoder."):
        return name.removeprefix("text_")
    return name if name.startswith("text.") else f"text.{name}"
