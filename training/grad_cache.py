"""One training step on a batch far larger than memory: gradient caching (Gao et al., 2021) with a pure loss.

Letters: N rows on this rank, D features.
"""

from dataclasses import dataclass

from training.batch import Batch
from training.engine import Engine
from training.losses.base import Loss


@dataclass(frozen=True)
class StepResult:
    """One step's numbers, the same on every rank except `timings`."""

    loss: float
    metrics: dict[str, float]
    grad_norm: float
    skipped: bool  # loss or gradient was not finite; nothing changed
    pairs: int  # valid pairs on all ranks
    timings: dict[str, float]  # seconds: pass1, loss, pass2, optimizer


def cached_step(engine: Engine, batch: Batch, loss: Loss, chunk: int, lr: float, check: bool = False) -> StepResult:
    """Forward, loss, backward and optimizer step for `batch`, holding the activations of `chunk` pairs at a time.

    `chunk` >= N: one forward with a graph, no second pass.
    """
    raise NotImplementedError
