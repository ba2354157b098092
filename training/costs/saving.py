"""Checkpoints: their bytes (`training/checkpoint`), what a save costs, and the interval of the save clock."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.plan.devices import Cluster
from pipeline.plan.found import SavePlan
from training.checkpoint.clock import DAY_S, SaveClock
from training.costs.model import Weights
from training.costs.timing import wire_s
from training.ranks.ring import F32

if TYPE_CHECKING:
    from training.settings import TrainSettings

HASH_GB_S = 1.0
"""What one process copies, hashes (sha256) and writes a second: assumed, of a server's core with SHA instructions."""
PAGEABLE_GB_S = 6.0
"""From a device into plain memory of its node."""
_ENTRY, _STATE = 100, 4096  # bytes of a tensor's line in a header; of state.json and COMPLETE.json


@dataclass(frozen=True)
class Beside:
    """What companions and the weights of terms add to a checkpoint: bytes, and tensors that they are of."""

    bytes: int = 0
    tensors: int = 0


def checkpoint_bytes(weights: Weights, beside: Beside = Beside()) -> int:  # noqa: B008
    """Of one, all files together."""
    moments = sum(sum(group.sizes) * group.moments for group in weights.groups)
    size = F32 * (weights.parameters + moments) + weights.buffers
    return size + beside.bytes + _ENTRY * (weights.number + beside.tensors) + _STATE


def save_s(size: int, cluster: Cluster, stage: int) -> float:
    """Every tensor is made whole on every rank (summed over them under ZeRO) and copied to its memory; each rank hashes
    and writes its share, all ranks of a node through what the node writes."""
    gathered = wire_s(2 * size * (cluster.ranks - 1) // cluster.ranks, cluster) if stage else 0.0
    copied = size / (min(PAGEABLE_GB_S, cluster.device.host_gb_s) * 1e9)
    written = max(size / cluster.ranks / (HASH_GB_S * 1e9), size / cluster.nodes / (cluster.storage_gb_s * 1e9))
    return gathered + copied + written


def saves(settings: "TrainSettings", cluster: Cluster, weights: Weights, beside: Beside, train_s: float) -> SavePlan:
    """Over a run of `train_s` seconds of steps. A failure costs half an interval on average."""
    size = checkpoint_bytes(weights, beside)
    cost_s = save_s(size, cluster, settings.engine.zero_stage)
    clock = SaveClock(settings.checkpoint, cluster.ranks, cost_s)
    step_s = train_s / settings.steps
    by_steps = settings.checkpoint.every_steps
    intervals = [clock.every_s] if clock.every_s is not None else []
    intervals += [by_steps * step_s] if by_steps is not None else []
    shortest = min(intervals)
    failures = settings.checkpoint.failures_per_gpu_day * cluster.ranks * train_s / DAY_S
    number = len(settings.plan.stages) + math.floor(train_s / max(shortest, step_s, 1e-9))
    lost_s = failures * min(shortest, train_s) / 2
    kept = size * (min(settings.checkpoint.keep_last, number) + 1)  # a new one is whole before an old one goes
    return SavePlan(size, cost_s, clock.every_s, number, kept, failures, lost_s)
