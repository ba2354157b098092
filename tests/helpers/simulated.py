"""Ranks as threads of one process: for properties that need many small worlds, where gloo would be slow."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from training.ranks.peers import Peers


class _Table:
    """Where the threads of one world lay down what they bring to a collective."""

    def __init__(self, world: int) -> None:
        self.laid: list[Any] = [None] * world
        self.barrier = threading.Barrier(world, timeout=30)


class SimulatedPeers(Peers):
    """Peers whose collectives meet at a table in memory; float sums are taken in rank order."""

    def __init__(self, rank: int, world: int, table: _Table) -> None:
        super().__init__(rank, world)
        self._table = table

    def gather_object(self, value: Any) -> list[Any]:
        self._table.laid[self.rank] = value
        self._table.barrier.wait()
        values = list(self._table.laid)
        self._table.barrier.wait()
        return values

    def broadcast_object(self, value: Any, source: int = 0) -> Any:
        return self.gather_object(value)[source]

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        return tensor.copy_(self.gather_object(tensor.detach().clone())[source])

    def all_sum(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.gather_object(tensor.detach().clone())).sum(0, dtype=tensor.dtype)

    def all_max(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.gather_object(tensor.detach().clone())).amax(0)

    def gather_rows(self, rows_ND: Tensor, counts: list[int] | None = None) -> tuple[Tensor, list[int]]:
        every = self.gather_object(rows_ND.detach().clone())
        given = [len(rows) for rows in every]
        assert counts in (None, given), "ranks must know the true counts"
        return torch.cat(every), given

    def scatter_sum_rows(self, rows_GD: Tensor, counts: list[int]) -> Tensor:
        return self.all_sum(rows_GD).split(counts)[self.rank]

    def shift(self, tensors: Sequence[Tensor], rows: int) -> Callable[[], list[Tensor]]:
        had = self.gather_object([tensor.detach().clone() for tensor in tensors])[self.rank - 1]
        assert all(len(tensor) == rows for tensor in had), "a rank must know what the one before it gives"
        return lambda: had

    def barrier(self) -> None:
        self.gather_object(None)


def run_simulated(function: Callable[..., Any], world: int, *args: Any) -> list[Any]:
    """`function(peers, *args)` on each of `world` threads; results in rank order; the first error is raised."""
    table = _Table(world)

    def one(rank: int) -> Any:
        try:
            return function(SimulatedPeers(rank, world, table), *args)
        except BaseException:
            table.barrier.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        futures = [pool.submit(one, rank) for rank in range(world)]
    errors = [future.exception() for future in futures if future.exception() is not None]
    real = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if errors:
        raise (real or errors)[0]
    return [future.result() for future in futures]
