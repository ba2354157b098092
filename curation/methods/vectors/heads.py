"""Small networks on stored vectors: linear or several layers, from a file of weights (aesthetic, NSFW, watermark, ...).

safetensors         <name>.weight [out, in] and <name>.bias [out] (or none), applied in the natural order of names.
                    What `clipmill head` writes says besides, in its metadata, of which model its vectors were
.pth, .pt, .bin     the same as a state dict of torch (LAION's aesthetic predictor: layers.0, layers.2, ...), read
                    with weights_only: nothing in it is run
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from pipeline.errors import RecipeError, one_line

Activation = Literal["none", "relu", "gelu", "tanh"]
Output = Literal["plain", "sigmoid", "softmax"]


NOTE = "clipmill"
"""The key of what a file says of itself: one, since safetensors writes several in any order."""


class Said(NamedTuple):
    """What `clipmill head` says of the head in its file. model: digest of what made the vectors of `column`."""

    model: str
    column: str
    activation: Activation
    output: Output


class Head(NamedTuple):
    """float32 weights [out, in] and biases [out] of each layer, in order."""

    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    activation: Activation
    output: Output

    @property
    def width(self) -> int:
        """Of the vectors that it is given."""
        return int(self.layers[0][0].shape[1])

    @property
    def outputs(self) -> int:
        return int(self.layers[-1][0].shape[0])

    def of(self, vector: np.ndarray) -> np.ndarray:
        """float32 [output] of one vector: products of one shape alone, so that no neighbour changes the last bit."""
        value = vector.astype(np.float32)
        for number, (weight, bias) in enumerate(self.layers):
            value = _ACTIVATIONS[self.activation](value) if number else value
            value = weight @ value + bias
        return _OUTPUTS[self.output](value)


def said_of(path: str) -> Said | None:
    """None for a file of anybody else, or one that cannot be read."""
    if not path.endswith(".safetensors"):
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            told = json.loads((file.metadata() or {})[NOTE])
        return Said(**{name: str(told[name]) for name in Said._fields})  # type: ignore[arg-type]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def as_file(layers: Sequence[tuple[np.ndarray, np.ndarray]], said: Said, more: Mapping[str, Any]) -> bytes:
    """A file that `read_head` reads; the same for the same numbers."""
    from safetensors.numpy import save

    tensors = {}
    for number, (weight, bias) in enumerate(layers):
        tensors[f"layers.{2 * number}.weight"] = np.ascontiguousarray(weight, np.float32)
        tensors[f"layers.{2 * number}.bias"] = np.ascontiguousarray(bias, np.float32)
    note = json.dumps({**more, **said._asdict()}, sort_keys=True)
    return bytes(save(tensors, {NOTE: note}))


def read_head(path: str, activation: Activation | None, output: Output | None, where: str) -> Head:
    """Of `activation` and `output` what the file says, where it does. RecipeError: no such file, no layers in it,
    layers that do not follow each other, a file that says otherwise."""
    said = said_of(path)
    for name, wanted in (("activation", activation), ("output", output)):
        if said is not None and wanted not in (None, getattr(said, name)):
            found = f"{wanted}, of a head that was trained with {getattr(said, name)}"
            raise RecipeError(f"{where}.{name}", found, "expected what it was trained with", f"leave {name} away")
    activation = activation or (said.activation if said else "none")
    output = output or (said.output if said else "plain")
    try:
        tensors = _tensors(path)
    except Exception as error:  # whatever a damaged file makes its reader raise
        raise RecipeError(f"{where}.weights", f"{path}: {one_line(error)}", "expected a file of weights") from None
    if set(tensors) <= {"weight", "bias"}:  # what nn.Linear calls its own
        tensors = {f"0.{name}": each for name, each in tensors.items()}
    names = sorted({name.removesuffix(".weight") for name in tensors if name.endswith(".weight")}, key=_natural)
    known = {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    odd = sorted(set(tensors) - known) + [name for name in names if tensors[f"{name}.weight"].ndim != 2]
    if odd or not names:
        found = f"{path} holds {', '.join(odd[:5]) or 'no <name>.weight'}"
        expected = "expected linear layers alone: <name>.weight [out, in], <name>.bias [out]"
        hint = "save the state_dict of an nn.Sequential of nn.Linear, or train one: clipmill head RECIPE"
        raise RecipeError(f"{where}.weights", found, expected, hint)
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    for name in names:
        weight = tensors[f"{name}.weight"]
        bias = tensors.get(f"{name}.bias", np.zeros(len(weight), np.float32))
        before = layers[-1][0].shape[0] if layers else weight.shape[1]
        if weight.shape[1] != before or bias.shape != (len(weight),):
            found = f"{name} is {list(weight.shape)} with a bias of {list(bias.shape)}, behind {before} values"
            raise RecipeError(f"{where}.weights", f"{path}: {found}", "expected layers that follow each other")
        layers.append((np.ascontiguousarray(weight), bias))
    return Head(tuple(layers), activation, output)


def _tensors(path: str) -> dict[str, np.ndarray]:
    if path.endswith(".safetensors"):
        from safetensors.numpy import load_file

        return {name: each.astype(np.float32) for name, each in load_file(path).items()}
    import torch

    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return {name: each.float().numpy() for name, each in loaded.get("state_dict", loaded).items()}


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """layers.2 before layers.10."""
    return [(not each.isdigit(), int(each) if each.isdigit() else 0, each) for each in re.split(r"(\d+)", name)]


def _gelu(value: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return (value * (1 + erf(value / np.sqrt(2))) / 2).astype(np.float32)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    from scipy.special import expit  # of any number, without overflow

    return expit(value.astype(np.float64)).astype(np.float32)


def _softmax(value: np.ndarray) -> np.ndarray:
    powers = np.exp(value.astype(np.float64) - value.max())
    return (powers / powers.sum()).astype(np.float32)


def _plain(value: np.ndarray) -> np.ndarray:
    return value


def _relu(value: np.ndarray) -> np.ndarray:
    return np.maximum(value, 0)


_Elementwise = Callable[[np.ndarray], np.ndarray]
_ACTIVATIONS: dict[str, _Elementwise] = {"none": _plain, "relu": _relu, "gelu": _gelu, "tanh": np.tanh}
_OUTPUTS: dict[str, _Elementwise] = {"plain": _plain, "sigmoid": _sigmoid, "softmax": _softmax}
