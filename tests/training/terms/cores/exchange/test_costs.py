"""What a step moves, counted at the collectives of real processes, is what the formulae say."""

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.ranks import run_ranks
from training.ranks.peers import Peers
from training.terms.cores import CORES, Problem
from training.terms.cores.exchange import EXCHANGES
from training.terms.cores.exchange.costs import CoreStep

b, D = 24, 32


def bytes_moved(core: str, exchange: str, B: int, W: int, width: int, e: int = 4) -> int:
    """Of one text an image, without ids."""
    return CoreStep(core, exchange, W, B // W, width, e, ids=False).moved()


def count(peers: Peers) -> dict[tuple, int]:
    made = torch.Generator().manual_seed(peers.rank)
    image, text = F.normalize(torch.randn(2, b, D, generator=made), dim=-1)
    problem = Problem(image, text, torch.tensor([2.0]), torch.tensor([-3.0]))
    counted = {}
    for core in CORES:
        for exchange in EXCHANGES:
            for wire in ("fp32", "bf16"):
                before = peers.moved
                CORES[core](problem, None, peers, exchange=exchange, tile=16, wire=wire)
                counted[core, exchange, wire] = peers.moved - before
    return counted


@pytest.mark.parametrize("world", [2, 4, pytest.param(8, marks=pytest.mark.exhaustive)])
def test_bytes_counted_over_gloo_are_those_of_the_formulae(world: int) -> None:
    for counted in run_ranks(count, world):
        for (core, exchange, wire), moved in counted.items():
            assert moved == bytes_moved(core, exchange, world * b, world, D, {"fp32": 4, "bf16": 2}[wire])
        assert len(counted) == len(CORES) * len(EXCHANGES) * 2


@pytest.mark.parametrize(
    ("core", "exchange", "wire", "want"),
    [
        ("softmax", "gather", 2, 2 + 4),
        ("softmax", "gather", 4, 4 + 4),
        ("softmax", "gather2", 2, 2 * 2),
        ("softmax", "ring", 2, 2 * 2 + 4),
        ("softmax", "ring", 4, 2 * 4 + 4),
        ("sigmoid", "gather", 2, 2 + 4),
        ("sigmoid", "gather2", 2, 2 * 2),
        ("sigmoid", "ring", 2, 2 + 4),
    ],
)
def test_the_leading_terms_are_those_of_the_arithmetic(core: str, exchange: str, wire: int, want: int) -> None:
    B, W, width = 2**20, 1024, 1024
    assert bytes_moved(core, exchange, B, W, width, wire) / (B * width) == pytest.approx(want, rel=0.01)


def test_alone_nothing_moves() -> None:
    assert [bytes_moved(core, way, 100, 1, 8) for core in CORES for way in EXCHANGES] == [0] * 6
