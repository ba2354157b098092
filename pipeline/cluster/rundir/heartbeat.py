"""heartbeat: that the run lives, and how far it is. Rewritten by rank 0 at every step, twice a second at most."""

from typing import Any

from pydantic import ValidationError

from pipeline.cluster.rundir.paths import RunDir, read_object, replace_quickly
from pipeline.settings import Settings


class Beat(Settings):
    """`step` steps are done; of a curation: tasks of the phase that is under way, of an evaluation: sets."""

    attempt: int
    stage: str
    phase: str = ""
    step: int
    steps: int | None = None
    samples: int = 0
    samples_per_s: float | None = None
    eta_s: float | None = None
    time: float  # seconds since 1970, by the clock of rank 0's node


def write_beat(run: RunDir, beat: Beat) -> None:
    """OSError when it cannot be written, which is no reason to stop training."""
    replace_quickly(run.heartbeat, beat.model_dump(mode="json"))


def read_beat(run: RunDir) -> Beat | None:
    found: Any = read_object(run.heartbeat)
    try:
        return None if found is None else Beat.model_validate(found)
    except ValidationError:
        return None
