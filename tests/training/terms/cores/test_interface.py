"""Every core, by every exchange, gives the gradients of the whole step, however its rows are shared out."""

import itertools

import pytest

from tests.helpers.contrast import check, hits, near, problems_of, sigmoid_parts, softmax_parts, whole_of
from tests.helpers.lanes import told
from tests.helpers.simulated import run_simulated
from training.terms.cores import CORES
from training.terms.cores.exchange import EXCHANGES
from training.terms.cores.interface import Problem

PARTS = {"softmax": softmax_parts, "sigmoid": sigmoid_parts}
# Rows of each rank: one rank, even, ragged, and a rank with none.
SHARES = [[7], [4, 4], [5, 0, 4], [1, 4, 2, 3]]
MORE = [*SHARES, [5, 2], [0, 6], [3, 3, 3], [5, 1, 3], [2, 2, 2, 2], [0, 3, 0, 4]]
TRAITS = ["masked", "twins", "extra", "queue", "weights"]
SINGLE = [set(), *({trait} for trait in TRAITS), set(TRAITS)]
TILES = [1, 2, (2, 5), (5, 1), 64]
REST = [set(some) for n in range(2, 5) for some in itertools.combinations(TRAITS, n)]


def solve(core: str, problems: list[Problem], **options: object) -> list:
    def on_rank(peers):
        return CORES[core](problems[peers.rank], None, peers, **options)

    return run_simulated(on_rank, len(problems))


def proven(core: str, exchange: str, counts: list[int], traits: set[str], tile: int | tuple[int, int]) -> None:
    problems = problems_of(counts, traits)
    whole = whole_of(problems)
    outputs = solve(core, problems, exchange=exchange, tile=tile)
    check(outputs, whole, PARTS[core](whole), bias=core == "sigmoid")
    for output in outputs:
        i2t, t2i = hits(whole, many=core == "sigmoid")
        near(output.metrics["acc_i2t"], i2t, 1e-9)
        near(output.metrics["acc_t2i"], t2i, 1e-9)


@pytest.mark.parametrize("traits", SINGLE, ids=lambda t: "+".join(sorted(t)) or "plain")
@pytest.mark.parametrize("counts", SHARES, ids=str)
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("core", CORES)
def test_any_world_gives_the_gradients_of_the_whole_step(core, exchange, counts, traits):
    proven(core, exchange, counts, traits, tile=3)


@pytest.mark.exhaustive
@pytest.mark.parametrize("counts", MORE, ids=str)
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("core", CORES)
def test_any_world_and_tile_gives_the_gradients_of_the_whole_step(core, exchange, counts):
    for traits, tile in itertools.product([*SINGLE, *REST], TILES):  # thousands: each a case would take long to collect
        with told(f"{traits} tile {tile}"):
            proven(core, exchange, counts, traits, tile)
