"""What the ranks of a run agree on before each step, and with which weights they are scored."""

from contextlib import contextmanager
from types import SimpleNamespace

import torch

from tests.helpers.ranks import run_ranks
from training.run import EVALS, Run


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


def test_each_average_is_scored_with_its_own_weights_in_the_towers_and_the_weights_with_none():
    lent, written = [0.0], []

    @contextmanager
    def lending(whole):
        lent.append(whole)
        yield
        lent.pop()

    run = SimpleNamespace(
        settings=SimpleNamespace(eval=SimpleNamespace(of="both", batch=4), image=None),
        engine=SimpleNamespace(lent=lending, towers=None, evaluate=None),
        companions=SimpleNamespace(of=lambda kind: [SimpleNamespace(name=f"a{n}", whole=float(n)) for n in (1, 2)]),
        peers=SimpleNamespace(rank=0, place=SimpleNamespace(enter=lambda _: None)),
        logs={EVALS: SimpleNamespace(write=written.append)},
        _scores=lambda model, prefix: {f"{prefix}R@1": lent[-1]},
        _pause=lambda *_: None,
    )
    Run.evaluate(run, 7)
    (line,) = written
    assert line["eval"] == {"R@1": 0.0, "a1/R@1": 1.0, "a2/R@1": 2.0} and lent == [0.0]
