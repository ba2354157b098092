"""What the ranks of a run agree on before each step."""

from types import SimpleNamespace

import torch

from tests.helpers.ranks import run_ranks
from training.run import Run


def _agreed(peers):
    """(signal, save) for every case of who was told what."""
    found = []
    for signalled, due, asked in ((None, None, None), (1, None, None), (None, 0, None), (None, 1, None), (1, 0, None),
                                  (None, None, 0), (None, None, 1)):  # fmt: skip
        run = SimpleNamespace(
            peers=peers,
            clock=SimpleNamespace(cost_s=1.0),
            _longest_s=1.0,
            feed=SimpleNamespace(asked=lambda _: 0, save_asked=lambda asked=asked: peers.rank == asked),
        )
        found.append(Run.agreed(run, 15 if peers.rank == signalled else 0, peers.rank == due))
    return found


def test_a_signal_of_any_rank_is_everybodys_and_rank_0s_clock_and_files_alone_say_save():
    torch.set_num_threads(1)
    first, second = run_ranks(_agreed, 2)
    assert first == second == [(0, False), (15, False), (0, True), (0, False), (15, True), (0, True), (0, False)]
