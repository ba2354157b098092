"""The ranks of one run, as a loss or an engine sees them. The only user of torch.distributed collectives.

Letters: N rows on this rank, G rows on all ranks, D features.

Every method is collective: all ranks call it in the same order, with tensors of the same dtype and trailing shape.
"""

import datetime
import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import ClipmillError


class Peers:
    """A world of one process: every collective is the identity. `GroupPeers` is the world of many."""

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank = rank
        self.world = world
        self.device = torch.device(device)

    @staticmethod
    def alone(device: torch.device | str = "cpu") -> "Peers":
        """One rank without a process group."""
        return Peers(0, 1, device)

    def all_sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, as a new tensor of the same shape; int64 wraps around (digests modulo 2**64)."""
        return tensor.detach().clone()

    def all_max(self, tensor: Tensor) -> Tensor:
        """The elementwise maximum over ranks, as a new tensor of the same shape."""
        return tensor.detach().clone()

    def gather_rows(self, rows_ND: Tensor) -> tuple[Tensor, list[int]]:
        """All ranks' rows in rank order (G, D), and how many each rank gave; ranks may give different N, or none."""
        return rows_ND.detach(), [rows_ND.shape[0]]

    def scatter_sum_rows(self, rows_GD: Tensor, counts: list[int]) -> Tensor:
        """The sum over ranks of `rows_GD`, this rank's own rows of it (N, D). `counts` as from `gather_rows`."""
        return rows_GD.detach()

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        """`tensor` overwritten in place by rank `source`'s, and returned."""
        return tensor

    def broadcast_object(self, value: Any, source: int = 0) -> Any:
        """Rank `source`'s small picklable value, on every rank."""
        return value

    def gather_object(self, value: Any) -> list[Any]:
        """Every rank's small picklable value in rank order, on every rank."""
        return [value]

    def barrier(self) -> None:
        """Returns when every rank has come here."""

    def close(self) -> None:
        """Leaves the process group, if this run started it."""


class GroupPeers(Peers):
    """Peers over torch.distributed's default process group (gloo or nccl)."""


def init_peers(
    backend: str | None = None,
    timeout_s: float = 1800.0,
    device: torch.device | str | None = None,
    init_method: str | None = None,
    rank: int | None = None,
    world: int | None = None,
) -> Peers:
    """Joins the run's process group and returns its peers; a world of 1 needs no group and gets none.

    `rank` and `world` default to the variables RANK and WORLD_SIZE that torchrun sets. `backend` defaults to nccl
    when `device` (default: this process's GPU, else cpu) is a GPU, gloo otherwise. `timeout_s` bounds every collective.
    """
    raise NotImplementedError
