"""Which rank this process is: said by torchrun or srun, or by nobody (then `launch` starts the ranks itself)."""

import os
import re
from collections.abc import Mapping

from pipeline.errors import UsageError

_FIRST_PORT, _PORTS = 10_000, 20_000  # below the range from which systems hand out ports by themselves


def joined(environment: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT as torch reads them; None when nobody started ranks.

    Only a step of srun counts as SLURM's: a batch script has SLURM_PROCID=0 too, but it is alone.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        return {name: environment[name] for name in names if name in environment}
    if "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment:
        return _from_slurm(environment)
    return None


def _from_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
    host = environment.get("MASTER_ADDR") or first_host(nodes)
    # A number that all ranks know and that two jobs sharing a node do not share.
    job = int(environment.get("SLURM_JOB_ID", "0")) * 16 + int(environment.get("SLURM_STEP_ID", "0")) % 16
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": host,
        "MASTER_PORT": environment.get("MASTER_PORT") or str(_FIRST_PORT + job % _PORTS),
    }


def first_host(nodes: str) -> str:
    """The first name of a SLURM node list: gpu[003-007,9],login -> gpu003."""
    match = re.match(r"([^,\[\]]+)(?:\[([0-9]+)[^\]]*\]([^,\[]*))?", nodes)
    if match is None:
        hint = "export MASTER_ADDR=<first host>"
        raise UsageError("SLURM_STEP_NODELIST", f"found {nodes!r}", "a list of nodes", hint)
    name, number, rest = match.groups()
    return name + (number or "") + (rest or "")


def job_of(environment: Mapping[str, str] = os.environ) -> str | None:
    """What stays the same when a scheduler starts the same job again; None outside of one."""
    return environment.get("CLIPMILL_JOB_ID") or environment.get("SLURM_JOB_ID")
