"""What devices can do, by their makers' sheets, and what a cluster of them is.

Compute is dense (no sparsity); GB and TB are powers of 1000, memory is in GiB as the driver tells it. `link_gb_s` is
one direction between the devices of a node, `network_gb_s` one direction out of the node, a device's share of it.

    a100, a100-40   NVIDIA A100 data sheet (2021), SXM: 312 TFLOP/s bf16, 19.5 fp32, 2,039 and 1,555 GB/s, NVLink 600
                    GB/s both ways; DGX A100: 8 ports of 200 Gbit/s
    h100            NVIDIA H100 data sheet (2023), SXM: 989 bf16, 67 fp32, 3.35 TB/s, NVLink 900; DGX H100: 8 of 400
    h200            NVIDIA H200 data sheet (2024), SXM: as h100, 141 GB of 4.8 TB/s
    b200            NVIDIA DGX B200 data sheet (2024), an eighth of: 72 PFLOP/s fp8 with sparsity (a quarter of it is
                    dense bf16: 2,250), 1,440 GB of 64 TB/s, NVLink 14.4 TB/s; 75 fp32 by HGX B200; ports as DGX H100
    l4              NVIDIA L4 data sheet (2023): 242 bf16 with sparsity, 30.3 fp32, 24 GB of 300 GB/s; PCIe 4.0 x16
    l40s            NVIDIA L40S data sheet (2023): 362 bf16, 91.6 fp32, 48 GB of 864 GB/s; PCIe 4.0 x16
    cpu             no sheet: one process with about two cores of a server, for a run to try things out; assumed

L4 and L40S have no sheet of a whole node: 100 Gbit/s for eight devices are assumed, and `--network-gbit` says better.
"""

from dataclasses import dataclass, replace

from pipeline.errors import UsageError

GIB = 1 << 30


@dataclass(frozen=True)
class Device:
    """memory_gib; TFLOP/s of matrix products by precision; GB/s of its memory, its link and its share of the network.

    `host_gb_s`: from the memory of the node into its own (PCIe), pageable or pinned alike."""

    name: str
    memory_gib: float
    bf16_tflops: float
    fp32_tflops: float
    memory_gb_s: float
    link_gb_s: float
    network_gb_s: float
    host_gb_s: float

    def flops(self, precision: str) -> float:
        """A second, of matrix products in `precision` (bf16 or fp32; TF32 is never used)."""
        return (self.bf16_tflops if precision == "bf16" else self.fp32_tflops) * 1e12


_ALL = (
    Device("a100", 80, 312, 19.5, 2039, 300, 25, 25),
    Device("a100-40", 40, 312, 19.5, 1555, 300, 25, 25),
    Device("h100", 79.6, 989, 67, 3350, 450, 50, 50),
    Device("h200", 140.4, 989, 67, 4800, 450, 50, 50),
    Device("b200", 178, 2250, 75, 8000, 900, 50, 50),
    Device("l4", 22, 121, 30.3, 300, 25, 1.6, 25),
    Device("l40s", 45, 362, 91.6, 864, 25, 1.6, 25),
    Device("cpu", 8, 0.1, 0.1, 10, 1, 1, 5),
)
DEVICES = {device.name: device for device in _ALL}


@dataclass(frozen=True)
class Cluster:
    """`nodes` of `per_node` devices. `storage_gb_s`: what a node reads or writes, `cores`: of a node, for data;
    `used`: share of the peak that a large matrix product reaches."""

    device: Device
    nodes: int = 1
    per_node: int = 8
    storage_gb_s: float = 2.0
    cores: int = 64
    used: float = 0.5
    price: float | None = None  # of an hour of one device

    @property
    def ranks(self) -> int:
        return self.nodes * self.per_node

    @property
    def wire_gb_s(self) -> float:
        """What a ring over all ranks moves a second and rank: its slowest hop."""
        if self.nodes == 1:
            return self.device.link_gb_s
        return min(self.device.link_gb_s, self.device.network_gb_s)

    def in_words(self) -> str:
        many = f"{self.nodes} nodes of " if self.nodes > 1 else ""
        return f"{many}{self.per_node} x {self.device.name}"


def cluster_of(
    device: str = "h100",
    nodes: int = 1,
    per_node: int = 8,
    *,
    network_gbit: float | None = None,
    storage_gb_s: float | None = None,
    cores: int | None = None,
    used: float | None = None,
    price: float | None = None,
) -> Cluster:
    """`network_gbit`: Gbit/s out of a whole node, in place of what the table says. UsageError: no such device."""
    if device not in DEVICES:
        raise UsageError("--device", f"{device!r} is not in the table", f"one of {', '.join(DEVICES)}", "--device h100")
    found = DEVICES[device]
    if network_gbit is not None:
        found = replace(found, network_gb_s=network_gbit / 8 / per_node)
    made = Cluster(found, nodes, per_node, price=price)
    return replace(
        made,
        storage_gb_s=made.storage_gb_s if storage_gb_s is None else storage_gb_s,
        cores=made.cores if cores is None else cores,
        used=made.used if used is None else used,
    )
