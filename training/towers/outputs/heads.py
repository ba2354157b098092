"""Layers behind the image tower that terms train and no export holds."""

from collections.abc import Sequence

from torch import nn

from training.wanted import Head

PREFIX = "heads."  # of their parameters among those of the towers


def projections(heads: Sequence[Head], width: int) -> nn.ModuleDict:
    """Of features of `width`, by the name of the output."""
    return nn.ModuleDict({head.name: _projection(width, head.hidden, head.width) for head in heads})


def _projection(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.ReLU(),
        nn.Linear(hidden, out),
    )  # fmt: skip
