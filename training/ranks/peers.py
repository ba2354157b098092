"""The ranks of one run, as a loss or an engine sees them. The only user of torch.distributed collectives.

Letters: N rows on this rank, G rows on all ranks, D features.

Every method is collective: all ranks call it in the same order, with tensors of the same dtype and trailing shape.
"""

import datetime
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import RecipeError
from training.ranks.place import Place


class Peers:
    """A world of one process, where every collective is the identity; `GroupPeers` is the world of many."""

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | str = "cpu") -> None:
        self.rank = rank
        self.world = world
        self.device = torch.device(device)
        self.place = Place()
        self.moved = 0  # bytes that tensor collectives have brought to this rank, in rings (see `GroupPeers`)
        self._owns_group = False  # a group that somebody else started is left alone by close()

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

    def gather_rows(self, rows_ND: Tensor, counts: list[int] | None = None) -> tuple[Tensor, list[int]]:
        """All ranks' rows in rank order (G, D), and how many each rank gave; ranks may give different N, or none.

        Who knows the counts already saves their exchange, and on a GPU a wait for it.
        """
        return rows_ND.detach(), [rows_ND.shape[0]]

    def scatter_sum_rows(self, rows_GD: Tensor, counts: list[int]) -> Tensor:
        """The sum over ranks of `rows_GD`, this rank's own rows of it (N, D). `counts` as from `gather_rows`."""
        return rows_GD.detach()

    def shift(self, tensors: Sequence[Tensor], rows: int) -> Callable[[], list[Tensor]]:
        """Hands `tensors` to the next rank of the ring; what is given back waits for those of the rank before, of
        `rows` rows each. Until then neither `tensors` may be written to nor another collective begin, shifts apart.
        """
        had = [tensor.detach() for tensor in tensors]
        return lambda: had

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

    def share_timeout(self) -> None:
        """Gives groups made by others since (DeepSpeed clones the world's) the timeout of `init_peers`.

        Their own default is torch's: 30 minutes on gloo, 10 on nccl.
        """

    def board(self) -> Any:
        """A key-value store that all ranks share, apart from all collectives; None where they met elsewhere. Not
        collective."""
        return None

    def close(self) -> None:
        """Leaves the process group, if these peers started it."""
        if self._owns_group and dist.is_initialized():
            dist.destroy_process_group()


class GroupPeers(Peers):
    """Peers over torch.distributed's default process group (gloo or nccl).

    `moved` counts what each rank of a ring receives, whatever the backend then does: a gather of blocks of n bytes
    (W - 1) n, a scatter of sums (W - 1) n, an all-reduce of n bytes 2 n (W - 1) / W, a broadcast n, a shift n.
    Blocks are as large as the largest rank's.
    """

    def __init__(self, device: torch.device, owned: bool, timeout_s: float | None = None, store: Any = None) -> None:
        super().__init__(dist.get_rank(), dist.get_world_size(), device)
        self._store = store
        self._owns_group = owned
        self._timeout_s = timeout_s

    def board(self) -> Any:
        # A connection of its own: the group's may be waiting in the middle of a question.
        return None if self._store is None else _prefixed("clipmill", self._store.clone())

    def share_timeout(self) -> None:
        if self._timeout_s is None:
            return
        for group in list(dist.distributed_c10d._world.pg_map):
            # set_timeout is public from torch 2.15 on
            set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
            set_timeout(datetime.timedelta(seconds=self._timeout_s), group)

    def all_sum(self, tensor: Tensor) -> Tensor:
        total = tensor.detach().clone()
        self.moved += 2 * total.nbytes * (self.world - 1) // self.world
        dist.all_reduce(total, dist.ReduceOp.SUM)
        return total

    def all_max(self, tensor: Tensor) -> Tensor:
        top = tensor.detach().clone()
        self.moved += 2 * top.nbytes * (self.world - 1) // self.world
        dist.all_reduce(top, dist.ReduceOp.MAX)
        return top

    def gather_rows(self, rows_ND: Tensor, counts: list[int] | None = None) -> tuple[Tensor, list[int]]:
        rows_ND = rows_ND.detach().contiguous()
        if counts is None:
            count = torch.tensor([rows_ND.shape[0]], dtype=torch.int64, device=rows_ND.device)
            every = torch.empty(self.world, dtype=torch.int64, device=rows_ND.device)
            self.moved += (self.world - 1) * count.nbytes
            _all_gather()(every, count)
            counts = every.tolist()
        most = max(counts)
        blocks = rows_ND.new_empty((self.world * most, *rows_ND.shape[1:]))
        self.moved += blocks.nbytes * (self.world - 1) // self.world
        if most:
            _all_gather()(blocks, _padded(rows_ND, most))
        if min(counts) == most:
            return blocks, counts
        kept = [blocks[rank * most : rank * most + n] for rank, n in enumerate(counts)]
        return torch.cat(kept), counts

    def scatter_sum_rows(self, rows_GD: Tensor, counts: list[int]) -> Tensor:
        rows_GD = rows_GD.detach().contiguous()
        most = max(counts)
        own_ND = rows_GD.new_empty((most, *rows_GD.shape[1:]))
        if most == 0:
            return own_ND
        if min(counts) < most:
            rows_GD = torch.cat([_padded(block, most) for block in rows_GD.split(counts)])
        self.moved += rows_GD.nbytes * (self.world - 1) // self.world
        _reduce_scatter()(own_ND, rows_GD, dist.ReduceOp.SUM)
        return own_ND[: counts[self.rank]]

    def shift(self, tensors: Sequence[Tensor], rows: int) -> Callable[[], list[Tensor]]:
        if self.world == 1:
            return super().shift(tensors, rows)
        given = [tensor.detach().contiguous() for tensor in tensors]
        had = [tensor.new_empty((rows, *tensor.shape[1:])) for tensor in given]
        after, before = (self.rank + 1) % self.world, (self.rank - 1) % self.world
        moves = [dist.P2POp(dist.isend, tensor, after) for tensor in given if tensor.numel()]
        moves += [dist.P2POp(dist.irecv, tensor, before) for tensor in had if tensor.numel()]
        self.moved += sum(tensor.nbytes for tensor in had)
        under_way = dist.batch_isend_irecv(moves) if moves else []

        def wait() -> list[Tensor]:
            for move in under_way:
                move.wait()
            return had

        return wait

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        self.moved += tensor.nbytes if self.rank != source else 0
        dist.broadcast(tensor.detach(), source)
        return tensor

    def broadcast_object(self, value: Any, source: int = 0) -> Any:
        box = [value]
        dist.broadcast_object_list(box, source, device=self.device)
        return box[0]

    def gather_object(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        # A barrier on a one-element sum: dist.barrier() with nccl guesses the device and warns.
        self.all_sum(torch.zeros(1, device=self.device)).cpu()


# Newer torch renamed both, and warns where the old name is used.
def _all_gather() -> Callable[..., Any]:
    return getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def _reduce_scatter() -> Callable[..., Any]:
    return getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def _padded(rows_ND: Tensor, to: int) -> Tensor:
    """`rows_ND` with zero rows after it, `to` rows in all: collectives move equal blocks only."""
    if rows_ND.shape[0] == to:
        return rows_ND
    out = rows_ND.new_zeros((to, *rows_ND.shape[1:]))
    out[: rows_ND.shape[0]] = rows_ND
    return out


def init_peers(
    backend: str | None = None,
    timeout_s: float = 1800.0,
    device: torch.device | str | None = None,
    init_method: str | None = None,
    rank: int | None = None,
    world: int | None = None,
) -> Peers:
    """Joins the run's process group and returns its peers; a world of 1 needs no group and gets none.

    `rank` and `world` default to the variables RANK and WORLD_SIZE that torchrun sets (absent: alone). `device`
    defaults to GPU number LOCAL_RANK where there are GPUs, else cpu; `backend` to nccl on a GPU, else gloo.
    `timeout_s` bounds every collective: a rank that waits longer dies with an error naming the collective.
    A process group that exists already is used as it is. RecipeError: only half of the variables are set.
    """
    device = _own_device() if device is None else torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_initialized():
        return GroupPeers(device, owned=False)
    rank = _from_env("RANK", "WORLD_SIZE", 0) if rank is None else rank
    world = _from_env("WORLD_SIZE", "RANK", 1) if world is None else world
    if world == 1:
        return Peers.alone(device)
    if not 0 <= rank < world:
        raise RecipeError("process group", f"rank {rank} of {world}", f"a rank from 0 to {world - 1}")
    timeout = datetime.timedelta(seconds=timeout_s)
    # As init_process_group does by itself, which keeps the store to itself.
    meeting = dist.rendezvous(init_method or "env://", rank, world, timeout=timeout)  # type: ignore[attr-defined]
    store, *_ = next(iter(meeting))
    store.set_timeout(timeout)
    dist.init_process_group(
        backend or ("nccl" if device.type == "cuda" else "gloo"),
        store=_prefixed("default_pg", store),
        rank=rank,
        world_size=world,
        timeout=timeout,
        device_id=device if device.type == "cuda" else None,
    )
    return GroupPeers(device, owned=True, timeout_s=timeout_s, store=store)


def _prefixed(prefix: str, store: Any) -> Any:
    return dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


def ensure_group(peers: Peers) -> None:
    """A process group of one for a rank that is alone: DeepSpeed will not start without a group."""
    if not dist.is_initialized():
        backend = "nccl" if peers.device.type == "cuda" else "gloo"
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        peers._owns_group = True


def _own_device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _from_env(name: str, other: str, default: int) -> int:
    if name in os.environ:
        return int(os.environ[name])
    if other in os.environ:
        raise RecipeError(
            "process group",
            f"the environment sets {other} but not {name}",
            "both or neither",
            "start the ranks with torchrun, srun or clipmill's own launcher",
        )
    return default
