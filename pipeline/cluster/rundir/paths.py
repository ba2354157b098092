"""Where things lie in a run directory, and the one way in which its small files are written and read."""

import errno
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.outputs import ATTEMPTS

STAGES = ("curate", "reinforce", "train", "eval")
"""In the order in which they are run."""
OUTPUTS = ("curate", "train", "eval")
"""Those with a folder of their own; what `reinforce` writes lies beside the shards."""
RUN_DIR, ATTEMPT = "CLIPMILL_RUN_DIR", "CLIPMILL_RUN_ATTEMPT"
"""What the processes of a stage are told: the run directory, and the number of their attempt."""
_STALE = (errno.ESTALE, errno.ENOENT)  # NFS, between the rename of a file and the news of it
_TRIES, _WAIT_S = 3, 0.05


@dataclass(frozen=True)
class RunDir:
    """Names only; nothing is read or made. `create` makes one, `open_run` finds one."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "run.yaml"

    @property
    def about(self) -> Path:
        return self.path / "run.json"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def attempts(self) -> Path:
        return self.path / ATTEMPTS

    @property
    def heartbeat(self) -> Path:
        return self.path / "heartbeat"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def attempt_logs(self, attempt: int) -> Path:
        return self.logs / f"{attempt:04d}"

    def log(self, attempt: int, node: int) -> Path:
        return self.attempt_logs(attempt) / f"{node}.log"

    def verdict(self, attempt: int, node: int) -> Path:
        """How the processes of one node ended: what the other nodes learn the cause from."""
        return self.attempt_logs(attempt) / f"{node}.json"

    def jobs(self, scheduler: str) -> Path:
        """Files that a scheduler is given, and what it answered."""
        return self.path / scheduler


def replace_quickly(path: Path, value: dict[str, Any]) -> None:
    """Whole or not at all to whoever reads it, but not forced to the disk: for what is written again in moments."""
    aside = path.with_name(f"{storage.TEMP_PREFIX}{secrets.token_hex(6)}-{path.name}")
    try:
        aside.write_text(json.dumps(value))
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file that others replace; None when it is absent or holds none. Opened, never only looked
    for: NFS answers from its memory whether a file is there, but asks the server when it is opened."""
    for left in reversed(range(_TRIES)):
        try:
            return storage.json_object(path.read_bytes())
        except OSError as error:
            if error.errno not in _STALE:
                raise
            if error.errno == errno.ENOENT or not left:
                return None
            time.sleep(_WAIT_S)
    return None
