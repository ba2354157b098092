"""The towers under a precision: the module that every engine trains."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.engine.interface import Outputs
from training.rows import Rows

if TYPE_CHECKING:
    from training.towers.towers import Towers

_SCALAR = "scalar "  # before the names of scalars among the outputs


class Body(nn.Module):
    """The towers under the engine's precision. ZeRO-3 sees every parameter used inside this module's forward."""

    def __init__(self, towers: "Towers", precision: str) -> None:
        super().__init__()
        self.towers = towers
        self._half = precision == "bf16"

    def forward(self, rows: Rows, want: frozenset[str]) -> dict[str, Tensor]:
        """One dictionary, because DeepSpeed hangs its hooks on the tensors of a flat output."""
        device = next(iter(rows.values())).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            features = self.towers(rows, want)
        # After the towers: it is their forward that makes ZeRO-3 gather their own parameters.
        return features | {_SCALAR + name: parameter * 1.0 for name, parameter in self.towers.scalars().items()}


def outputs_of(found: dict[str, Tensor]) -> Outputs:
    features = {name: column for name, column in found.items() if not name.startswith(_SCALAR)}
    return Outputs(features, {n.removeprefix(_SCALAR): column for n, column in found.items() if n.startswith(_SCALAR)})


def on_device(rows: Rows, device: torch.device) -> Rows:
    return {name: column.to(device, non_blocking=True) for name, column in rows.items()}
