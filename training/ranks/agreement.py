"""Work whose outcome every rank must share: nobody waits in a collective for a rank that has given up."""

from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import ClipmillError
from training.ranks.peers import Peers

T = TypeVar("T")


def on_first_rank(peers: Peers, work: Callable[[], T]) -> T:
    """Rank 0's small result on every rank; an error of ours on rank 0 is raised on every rank. Collective."""
    outcome: tuple[T | None, ClipmillError | None] = (None, None)
    if peers.rank == 0:
        outcome = _outcome(work)
    result, error = peers.broadcast_object(outcome)
    if error is not None:
        raise error
    return result


def on_every_rank(peers: Peers, work: Callable[[], T]) -> list[T]:
    """Every rank's small result in rank order; if ranks had errors, the first one's is raised on all. Collective."""
    outcomes = peers.gather_object(_outcome(work))
    for _, error in outcomes:
        if error is not None:
            raise error
    return [result for result, _ in outcomes]


def _outcome(work: Callable[[], T]) -> tuple[T | None, ClipmillError | None]:
    try:
        return work(), None
    except ClipmillError as error:
        return None, error
