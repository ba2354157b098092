"""Tensors in files: of one that is mapped only the part that is looked at is read."""

import re
from pathlib import Path

import torch

from training.checkpoint.tensors import TensorReader, write_tensors

MIB = 1 << 20


def mapped() -> int:
    """Bytes of files that this process has in memory."""
    return int(re.findall(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) << 10


def test_a_rank_reads_of_a_moment_no_more_than_it_holds(tmp_path):
    """Under ZeRO each holds a part of every moment: the whole of them on every rank would be terabytes."""
    moment = torch.randn(16, MIB)
    write_tensors(tmp_path, "rank-000", [("exp_avg/a", moment), ("exp_avg_sq/a", moment)])
    before = mapped()
    found = TensorReader(tmp_path.glob("*.safetensors")).get("exp_avg/a")
    part = found.flatten()[5 * MIB : 6 * MIB].clone()
    read = mapped() - before
    assert torch.equal(part, moment[5])
    assert 4 * MIB <= read <= 12 * MIB, f"{read / MIB:.1f} MiB in memory for 4 of 128"
    del found
