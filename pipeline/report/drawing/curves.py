"""`metrics.jsonl` -> curves of bounded length.

A run may log millions of steps and may have been killed at any byte: lines are streamed, a torn line is counted and
skipped, and a step that was done again after a resume counts once, with its latest numbers.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline import storage

FIELDS = (
    "samples", "loss", "logit_scale", "lr", "samples_per_s", "grad_norm", "acc_i2t", "acc_t2i", "memory_mb", "epoch",
    "time_fetch_s", "time_pass1_s", "time_loss_s", "time_pass2_s", "time_optimizer_s",
)  # fmt: skip
MAX_POINTS = 400  # of one curve; more than a screen has pixels for


@dataclass(frozen=True)
class Steps:
    """Logged numbers by step. `values[name]` has one float per entry of `steps`; NaN where the field was not logged."""

    steps: np.ndarray
    values: dict[str, np.ndarray]
    repeated: int = 0  # rows whose step was logged again later (work redone after a resume)
    unreadable: int = 0  # lines that are no JSON object with a step
    skipped: int = 0  # steps whose loss or gradient was not finite
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.steps)

    def has(self, name: str) -> bool:
        return bool(np.isfinite(self.values[name]).any())


def read_steps(url: str) -> Steps:
    """The curves of one `metrics.jsonl`."""
    rows: dict[int, tuple[float, ...]] = {}
    repeated = unreadable = 0
    skipped: dict[int, bool] = {}
    for line in storage.json_lines(url):
        row = line.row
        if row is None or not isinstance(row.get("step"), int):
            unreadable += 1
            continue
        repeated += row["step"] in rows
        skipped[row["step"]] = bool(row.get("skipped")) or ("loss" in row and not math.isfinite(_number(row["loss"])))
        rows[row["step"]] = tuple(_number(row.get(name)) for name in FIELDS)
    order = sorted(rows)
    table = np.array([rows[step] for step in order], dtype=np.float64).reshape(len(order), len(FIELDS))
    values = {name: table[:, i] for i, name in enumerate(FIELDS)}
    first, last = {}, {}
    for name, column in values.items():
        finite = column[np.isfinite(column)]
        if len(finite):
            first[name], last[name] = float(finite[0]), float(finite[-1])
    return Steps(np.array(order, dtype=np.int64), values, repeated, unreadable, sum(skipped.values()), first, last)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def thinned(xs: np.ndarray, ys: np.ndarray, points: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Means over equal runs of entries, at most `points` of them; non-finite entries are left out first."""
    good = np.isfinite(ys)
    xs, ys = xs[good].astype(np.float64), ys[good]
    if len(xs) <= points:
        return xs, ys
    edges = np.linspace(0, len(xs), points + 1).astype(np.int64)
    sizes = np.diff(edges)
    return np.add.reduceat(xs, edges[:-1]) / sizes, np.add.reduceat(ys, edges[:-1]) / sizes


def smoothed(ys: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean; at the ends the window shrinks on both sides, so that the line is not dragged."""
    sums = np.concatenate([[0.0], np.cumsum(ys)])
    at = np.arange(len(ys))
    half = np.minimum(np.minimum(at, len(ys) - 1 - at), window // 2)
    return (sums[at + half + 1] - sums[at - half]) / (2 * half + 1)
