"""Every core by every exchange on real processes: gradients of the whole step, features rounded as they travel."""

from dataclasses import replace

import pytest
import torch

from tests.helpers.contrast import check, problems_of, sigmoid_parts, softmax_parts, whole_of
from tests.helpers.ranks import run_ranks
from training.ranks.peers import Peers
from training.terms.cores import CORES, CoreOutput
from training.terms.cores.exchange import EXCHANGES
from training.terms.targets import TARGETS

PARTS = {"softmax": softmax_parts, "sigmoid": sigmoid_parts}
ALL = {"masked", "twins", "extra", "queue", "weights"}
CASES = [(core, exchange, traits) for core in CORES for exchange in EXCHANGES for traits in ((), sorted(ALL))]


def solve(peers: Peers, counts: list[int]) -> list[CoreOutput]:
    found = []
    for core, exchange, traits in CASES:
        problem = problems_of(counts, set(traits))[peers.rank]
        found.append(CORES[core](problem, None, peers, exchange=exchange, tile=3))
    for exchange in EXCHANGES:
        problem = problems_of(counts, set(), width=16, dtype=torch.float32)[peers.rank]
        found += [CORES[core](problem, None, peers, exchange=exchange, tile=3, wire="bf16") for core in CORES]
        found.append(CORES["softmax"](problem, TARGETS["teacher"](), peers, exchange=exchange, tile=3, wire="bf16"))
    return found


@pytest.mark.parametrize("counts", [[5, 2], [4, 0, 3, 1]], ids=str)
def test_processes_give_the_gradients_of_the_whole_step(counts: list[int]) -> None:
    found = [list(outputs) for outputs in zip(*run_ranks(solve, len(counts), counts), strict=True)]
    for core, _, traits in CASES:
        whole = whole_of(problems_of(counts, set(traits)))
        check(found.pop(0), whole, PARTS[core](whole), bias=core == "sigmoid")
    for exchange in EXCHANGES:
        rounded = [
            replace(
                problem,
                text_MD=problem.text_MD.bfloat16().float(),
                image_ND=problem.image_ND.bfloat16().float() if exchange == "gather2" else problem.image_ND,
            )
            for problem in problems_of(counts, set(), width=16, dtype=torch.float32)
        ]
        for core in CORES:
            whole = whole_of(rounded)
            check(found.pop(0), whole, PARTS[core](whole), tolerance=1e-5, bias=core == "sigmoid")
        assert all(output.value.isfinite() for output in found.pop(0))
    assert found == []
