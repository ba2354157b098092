"""The state that a Reduce has come to, where the segment that it ends is closed: for its verdicts and for the books.

<closing folder>/<round>-state.parquet     of each round
                /<round>-kept-<n>.arrow    of each piece, where the round came in pieces
                /closed.json               {"rounds", "kept": the last round that came in pieces}
"""

from collections.abc import Callable

import pyarrow as pa

from curation.job import Job, Segment
from pipeline import storage

CLOSED = "closed.json"
SETTLED = "-settled.json"
"""How the state of a settled round of a Group ends."""


def state_name(number: int) -> str:
    return f"{number}-state"


def kept_name(number: int, piece: int) -> str:
    return f"{number}-kept-{piece:05d}"


def last_state(job: Job, here: Segment) -> pa.Table:
    closed = storage.read_state(job.closing_file(here, CLOSED)) or {"rounds": 1}
    return storage.read_parquet(job.closing_file(here, f"{state_name(closed['rounds'] - 1)}.parquet"))


def last_pieces(job: Job, here: Segment) -> Callable[[int], pa.Table] | None:
    closed = storage.read_state(job.closing_file(here, CLOSED)) or {}
    return pieces_of(job, here, closed.get("kept"))


def pieces_of(job: Job, here: Segment, number: int | None) -> Callable[[int], pa.Table] | None:
    """What a round has kept of its pieces, mapped into memory where the folder is local."""
    if number is None:
        return None
    return lambda piece: storage.read_arrow(job.closing_file(here, f"{kept_name(number, piece)}.arrow"))
