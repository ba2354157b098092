"""What a scheduler can do with a run; one file each, and a line in the table of this room."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
