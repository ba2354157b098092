"""Peers: what every collective gives on one rank and on many, with ragged rows."""

import time
import warnings
from pathlib import Path

import pytest
import torch

from pipeline.errors import RecipeError
from tests.helpers.ranks import run_ranks
from training.ranks.peers import Peers, init_peers

RAGGED = [[3], [2, 5], [0, 4, 1], [3, 0, 0, 2]]


def _rows(rank: int, count: int) -> torch.Tensor:
    return torch.arange(count * 2, dtype=torch.float32).reshape(count, 2) + 100 * rank


def _exercise(peers: Peers, counts: list[int]) -> dict:
    warnings.filterwarnings("error", message="`torch.distributed")  # said on behalf of torch's own wrappers
    rows, every = peers.gather_rows(_rows(peers.rank, counts[peers.rank]))
    mine = peers.scatter_sum_rows(rows * (peers.rank + 1), every)
    peers.barrier()
    known, _ = peers.gather_rows(_rows(peers.rank, counts[peers.rank]), counts)
    before = peers.moved
    giver = counts[peers.rank - 1]
    first = peers.shift([_rows(peers.rank, counts[peers.rank]), torch.full((counts[peers.rank],), peers.rank)], giver)
    second = peers.shift([_rows(peers.rank, counts[peers.rank]) + 0.5], giver)
    return {
        "known": known,
        "shifted": [*first(), *second()],
        "moved": peers.moved - before,
        "gathered": rows,
        "counts": every,
        "scattered": mine,
        "sum": peers.all_sum(torch.tensor([peers.rank, 2**62], dtype=torch.int64)),
        "max": peers.all_max(torch.tensor([float(peers.rank), -1.0])),
        "broadcast": peers.broadcast(torch.full((2,), float(peers.rank)), source=peers.world - 1),
        "said": peers.broadcast_object({"rank": peers.rank}, source=peers.world - 1),
        "heard": peers.gather_object(("rank", peers.rank)),
        "empty": peers.gather_rows(torch.zeros(0, 3))[0].shape,
    }


@pytest.mark.parametrize("counts", RAGGED, ids=str)
def test_every_collective_over_gloo(counts: list[int]) -> None:
    world = len(counts)
    want = torch.cat([_rows(rank, count) for rank, count in enumerate(counts)])
    wrapped = (world * 2**62 + 2**63) % 2**64 - 2**63  # four ranks overflow int64: digests add modulo 2**64
    for rank, out in enumerate(run_ranks(_exercise, world, counts)):
        assert torch.equal(out["gathered"], want) and torch.equal(out["known"], want)
        giver = (rank - 1) % world
        rows, numbers, halves = out["shifted"]
        assert torch.equal(rows, _rows(giver, counts[giver])) and torch.equal(halves, rows + 0.5)
        assert numbers.tolist() == [giver] * counts[giver]
        assert out["moved"] == (0 if world == 1 else counts[giver] * (8 + 8 + 8))
        assert out["counts"] == counts
        total = want * sum(range(1, world + 1))
        assert torch.equal(out["scattered"], total.split(counts)[rank])
        assert out["sum"].tolist() == [sum(range(world)), wrapped]
        assert out["max"].tolist() == [world - 1, -1.0]
        assert out["broadcast"].tolist() == [world - 1] * 2
        assert out["said"] == {"rank": world - 1}
        assert out["heard"] == [("rank", r) for r in range(world)]
        assert tuple(out["empty"]) == (0, 3)


def test_alone_needs_no_group_and_agrees_with_a_group_of_one() -> None:
    out = _exercise(Peers.alone(), [3])
    assert torch.equal(out["gathered"], _rows(0, 3)) and torch.equal(out["scattered"], _rows(0, 3))
    assert out["heard"] == [("rank", 0)]
    given = torch.ones(2)
    Peers.alone().all_sum(given).add_(1)
    assert given.tolist() == [1, 1], "a collective must not hand back its input"


def _absent(peers: Peers, ended: Path) -> None:
    """Rank 1 does not come, until rank 0 has given up: in the run's own group and in one that a library made."""
    cloned = torch.distributed.new_group()
    peers.barrier()
    if peers.rank == 1:
        while not ended.exists():
            time.sleep(0.05)
        return
    peers._timeout_s = 0.5
    peers.share_timeout()
    with pytest.raises(RuntimeError):
        torch.distributed.all_reduce(torch.zeros(1), group=cloned)
    with pytest.raises(RuntimeError):
        peers.barrier()
    ended.touch()


def test_a_collective_ends_with_an_error_when_a_peer_does_not_come(tmp_path: Path) -> None:
    run_ranks(_absent, 2, tmp_path / "ended")


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)  # as after no other test
    with pytest.raises(RecipeError, match="WORLD_SIZE"):
        init_peers(device="cpu")


def _fails(peers: Peers) -> None:
    if peers.rank == 1:
        raise ValueError("rank one says no")
    peers.barrier()


def test_the_helper_reports_the_rank_that_raised() -> None:
    with pytest.raises(AssertionError, match="rank one says no"):
        run_ranks(_fails, 2)
