"""metrics.jsonl and evals.jsonl: one JSON object a line, written by rank 0, exactly one line for each step of the run.

A line's `step` counts from 0 and names the step whose pairs `clipmill data show --step N` lists. On resuming, the lines
of steps that the checkpoint does not hold are cut off: those steps are done again.
"""

import json
import math
import os
import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from pipeline.storage.refusals import storage_errors

METRICS, EVALS = "metrics.jsonl", "evals.jsonl"


class JsonLines:
    """An append-only log of steps. A line is in the system's hands when `write` returns, on disk after `sync`."""

    def __init__(self, path: Path, keep_below: int) -> None:
        """Keeps the lines with step < `keep_below`; a cut line and all after the first other one go."""
        self._path = path
        with storage_errors(path):
            if path.exists():
                os.truncate(path, kept_bytes(path, keep_below))
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed in __exit__)

    def write(self, row: Mapping[str, Any]) -> None:
        """Non-finite numbers become null: JSON has no NaN."""
        plain = {key: _plain(value) for key, value in row.items()}
        with storage_errors(self._path):
            self._file.write((json.dumps(plain, separators=(",", ":"), allow_nan=False) + "\n").encode())

    def sync(self) -> None:
        with storage_errors(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return round_to(value) if math.isfinite(value) else None
    return value


def round_to(value: float, digits: int = 9) -> float:
    """9 significant digits tell any two float32 apart."""
    return float(f"{value:.{digits}g}")


def kept_bytes(path: Path, keep_below: int) -> int:
    """Length of the front part of the log whose lines are whole and of steps below `keep_below`."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            step = _step_of(line)
            if step is None or step >= keep_below:
                break
            end += len(line)
    return end


def _step_of(line: bytes) -> int | None:
    if not line.endswith(b"\n"):
        return None
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line."""
    with open(path, "rb") as file:
        for line in file:
            if _step_of(line) is not None:
                yield json.loads(line)


def peak_memory_mb(device: torch.device) -> float:
    """The most memory this process has held: of its GPU if it has one, else of the machine. In MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
