"""metrics.jsonl and evals.jsonl: one JSON object a line, written by rank 0, exactly one line for each step of the run.

A line's `step` counts from 0 and names the step whose pairs `clipmill data show --step N` lists. On resuming, the lines
of steps that the checkpoint does not hold are cut off: those steps are done again. Lines that the checkpoint does hold
are never dropped for the sake of a damaged one before them.
"""

import json
import math
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from pipeline import storage
from pipeline.log import get_logger
from pipeline.storage.refusals import storage_errors

log = get_logger("train")
_SHOWN = 8  # missing steps named in a warning


class JsonLines:
    """An append-only log of steps. A line is in the system's hands when `write` returns, on disk after `sync`."""

    def __init__(self, path: Path, keep_below: int, every_step: bool = False) -> None:
        """Keeps one line for each step < `keep_below`. With `every_step`, steps that are missing are named."""
        self._path = path
        with storage_errors(path):
            if path.exists():
                restore(path, keep_below, every_step)
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


def restore(path: Path, keep_below: int, every_step: bool = False) -> None:
    """The log holds one whole line for each step below `keep_below` that it held before, in order, and nothing else.

    The end is cut off where that is enough. A log damaged before its end is set aside whole, under a name that says so,
    and what is good in it is written anew.
    """
    good: dict[int, storage.JsonLine] = {}
    end, in_order = 0, True
    for line in storage.json_lines(str(path)):
        step = line.row.get("step") if line.row is not None and line.whole else None
        if not isinstance(step, int) or isinstance(step, bool) or step >= keep_below:
            continue
        in_order = in_order and line.start == end and step > max(good, default=-1)
        good[step], end = line, line.end  # of a step that was logged twice, the later line counts
    if in_order:
        os.truncate(path, end)
    else:
        _rewrite(path, [good[step] for step in sorted(good)])
    missing = sorted(set(range(keep_below)) - set(good)) if every_step else []
    if missing:
        some = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        log.warning("%s: has no line for %d of %d steps done before: %s", path, len(missing), keep_below, some)


def _rewrite(path: Path, lines: list[storage.JsonLine]) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    data = path.read_bytes()
    storage.publish_bytes(str(aside), data)
    storage.publish_bytes(str(path), b"".join(data[line.start : line.end] for line in lines))
    log.warning("%s: was damaged; %d lines are kept, and all of it as it was is in %s", path, len(lines), aside.name)


def peak_memory_mb(device: torch.device) -> float:
    """The most memory this process has held: of its GPU if it has one, else of the machine. In MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
