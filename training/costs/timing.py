"""How long a step takes: each operation by the peak that binds it (the roofline, Williams et al., 2009).

An operation takes the longer of its matrix products at `Cluster.used` of the device's peak and its bytes at MEMORY of
the bandwidth; a pass no less than HOST_S for each of its operations, which the host sends off one by one. Nothing
overlaps: gradients travel after the last backward (`accumulate`), features between the passes. A term's arithmetic is
what it says of itself (`TermSettings.costs`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.plan.devices import Cluster
from training.costs.model import Passes, Weights
from training.costs.watch import Work
from training.costs.weights import parts
from training.ranks.ring import F32
from training.terms.costs import TermCost

if TYPE_CHECKING:
    from training.settings import TrainSettings

MEMORY = 0.7
"""Share of the memory's bandwidth that large elementwise kernels reach: STREAM-like kernels measure 0.8 to 0.9."""
WIRE = 0.6
"""Share of link and network that large collectives reach: nccl-tests' bus bandwidth on DGX is 0.75 to 0.85 of it."""
BETWEEN = ("loss", "companions")
"""What travels beside gradients and parameters."""
HOST_S = 8e-6
"""Python, dispatch and launch of one operation of PyTorch in eager mode."""


def work_s(work: Work, cluster: Cluster) -> float:
    """Seconds of a pass on one device, and of the host that sends it off."""
    return max(device_s(work, cluster), host_s(work))


def device_s(work: Work, cluster: Cluster) -> float:
    """Seconds of a pass, were the host infinitely fast."""
    bandwidth = MEMORY * cluster.device.memory_gb_s * 1e9
    rates = {half: cluster.used * cluster.device.flops("bf16" if half else "fp32") for half in (False, True)}
    return sum(number * max(one.flops / rates[one.half], one.bytes / bandwidth) for one, number in work.operations)


def host_s(work: Work) -> float:
    """The least that the host takes to send off a pass."""
    return work.number * HOST_S


def wire_s(size: int, cluster: Cluster) -> float:
    return size / (WIRE * cluster.wire_gb_s * 1e9)


def chunk_shares(rows: int, chunk: int) -> tuple[int, float]:
    """(chunks, share of a chunk that the last one is) of a rank's rows."""
    chunks = max(1, -(-rows // chunk))
    return chunks, (rows - (chunks - 1) * chunk) / chunk


def seconds(
    settings: "TrainSettings",
    cluster: Cluster,
    weights: Weights,
    passes: Passes,
    traffic: dict[str, int],
    rows: int,
    terms: Iterable[TermCost],
) -> dict[str, float]:
    """Of a step by what it does then; `passes` are of min(chunk, rows) pairs."""
    chunks, last = chunk_shares(rows, min(settings.batch.chunk, rows))
    plain, forward = work_s(passes.plain, cluster), work_s(passes.forward, cluster)
    cached = bool(passes.plain.number)
    return {
        "copy of pixels": passes.rows * rows / (cluster.device.host_gb_s * 1e9),
        "first pass": (chunks - 1) * plain * cached + last * forward,
        "loss": loss_s(terms, cluster) + wire_s(traffic["loss"], cluster),
        "second pass": (chunks - 1) * forward + (chunks - 1 + last) * work_s(passes.backward, cluster),
        "reduction": wire_s(sum(size for name, size in traffic.items() if name not in BETWEEN), cluster),
        "optimizer": optimizer_s(settings, cluster, weights),
    }


def loss_s(terms: Iterable[TermCost], cluster: Cluster) -> float:
    """Arithmetic between the passes, in fp32."""
    each = list(terms)
    flops = sum(one.flops for one in each) / (cluster.used * cluster.device.flops("fp32"))
    return flops + sum(one.touched for one in each) / (MEMORY * cluster.device.memory_gb_s * 1e9)


def optimizer_s(settings: "TrainSettings", cluster: Cluster, weights: Weights) -> float:
    """Gradients read for their norm and for the update, weights and moments read and written."""
    own = parts(weights, settings.engine.zero_stage, cluster.ranks)
    numbers = sum(part * (4 + 2 * group.moments) for part, group in zip(own, weights.groups, strict=True))
    return F32 * numbers / (MEMORY * cluster.device.memory_gb_s * 1e9)
