"""What a scheduler can do with a run; one file each, and a line in the table of this room."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.cluster.rundir import RunDir


@dataclass(frozen=True)
class Request:
    """What is to be run and on what. `stages`: in order. `options`: of `submit --option KEY=VALUE`; a scheduler refuses
    with UsageError those that it does not know."""

    stages: tuple[str, ...]
    nodes: int = 1
    gpus_per_node: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One job of a scheduler's. `state`: one word of `JOB_STATES`; `reason`: why it waits or how it ended, in the
    scheduler's own words."""

    id: str
    stage: str
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Said:
    """One line that a process of a run has said. source: who, in the scheduler's words; stamp: of its lines this one
    alone, the same whenever it is asked for."""

    source: str
    stamp: str
    text: str


TAIL = 2000
"""Lines of one source that are told; of a run whose directory is elsewhere they are all there is."""


def lines_of(path: Path) -> list[Said]:
    """The end of a file to which a scheduler writes, whole lines; none where it is not there."""
    try:
        lines = path.read_text(errors="replace").split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [Said(str(path), str(number), line) for number, line in enumerate(lines)][-TAIL:]


JOB_STATES = ("waiting", "running", "done", "failed", "gone")


class Scheduler(Protocol):
    """`render` makes what `submit` hands over as plain files by name, the same bytes for the same request; `submit
    --dry-run` writes them to <run>/<scheduler>/ and stops there."""

    name: str

    def render(self, run: RunDir, request: Request) -> dict[str, str]: ...

    def submit(self, run: RunDir, request: Request) -> list[Job]:
        """Hands the files over. ClipmillError when the scheduler says no."""
        ...

    def jobs(self, run: RunDir, ids: list[str]) -> list[Job]:
        """Of a run, as it was submitted last. Never raises because a scheduler is away: `reason` says so."""
        ...

    def cancel(self, run: RunDir, ids: list[str]) -> None:
        """Ends the jobs; control/cancel is there already."""
        ...

    def said(self, run: RunDir, ids: list[str], within_s: float | None = None) -> list[Said]:
        """What the scheduler has kept of the run's words, or the end of it, each source in order; also what is in the
        logs of the run directory. `within_s`: only what was said so long ago at most. ClipmillError when it cannot be
        asked."""
        ...
