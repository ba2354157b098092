"""state.json: where the run stands. Written by rank 0's side only, read by everybody: wrappers, schedulers, people."""

import time
from typing import Any, Literal

from pydantic import Field, ValidationError

from pipeline import storage
from pipeline.cluster.rundir.lock import overtaken
from pipeline.cluster.rundir.paths import RunDir, read_object
from pipeline.errors import DataError
from pipeline.settings import Settings

Status = Literal["running", "stopped", "completed", "failed"]
Fault = Literal["config", "data", "crash", "hang", "node"]


class State(Settings):
    """`step`, `samples`, `checkpoint`: of the newest committed checkpoint of the stage (for curation, of its manifest:
    step 1 is there, step 0 is not yet). `exit_code`: what the wrappers of an attempt that has ended end with."""

    format_version: Literal[1] = 1
    stage: Literal["curate", "reinforce", "train", "eval"]
    status: Status
    fault: Fault | None = Field(None, alias="class")
    message: str = ""
    step: int = 0
    samples: int = 0
    steps: int | None = None
    checkpoint: str | None = None
    attempt: int
    owner: str
    exit_code: int | None = None
    time: float = 0.0  # seconds since 1970


def read_state(run: RunDir) -> State | None:
    """None before the first attempt. DataError for a file that no attempt has written."""
    content = read_object(run.state)
    if content is None:
        return None
    try:
        return State.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        found = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise DataError(str(run.state), found, "the state that an attempt wrote", "update clipmill") from None


def write_state(run: RunDir, attempt: int, **changes: Any) -> bool:
    """The state of an attempt with these fields changed; False, and nothing is written, where a newer one has the run.

    What an earlier attempt of the same stage has saved is kept until there is a newer one.
    """
    if overtaken(run, attempt) is not None:
        return False
    before = read_state(run)
    content: dict[str, Any] = {} if before is None else before.model_dump(mode="json", by_alias=True)
    if before is not None and before.stage != changes.get("stage", before.stage):
        content = {}
    if before is not None and before.attempt != attempt:
        content |= {"class": None, "message": "", "exit_code": None}
    content |= {**changes, "attempt": attempt, "time": time.time()}
    state = State.model_validate(content)
    storage.publish_json(str(run.state), state.model_dump(mode="json", by_alias=True))
    return True
