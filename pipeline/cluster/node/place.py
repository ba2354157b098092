"""Which node of how many this is, said by plain variables, by srun or by an indexed Job of Kubernetes."""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError

RANK, NODES, ATTEMPT = "CLIPMILL_NODE_RANK", "CLIPMILL_NODES", "CLIPMILL_ATTEMPT"
ADDRESS, PORT = "CLIPMILL_MASTER_ADDR", "CLIPMILL_MASTER_PORT"
GRACE, HANG, JOIN = "CLIPMILL_GRACE_S", "CLIPMILL_HANG_S", "CLIPMILL_JOIN_S"
FAILURES = "CLIPMILL_MAX_FAILURES"
HANG_S = {"curate": 6 * 3600.0, "reinforce": 3600.0, "train": 3600.0, "eval": 3600.0}
"""Longest time without a heartbeat, by stage: longer than a start, a save, a set or a task of curation ever takes."""
JOIN_S = 600.0
MAX_FAILURES = 3
_TAKEN_AWAY = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """rank: of this node, of `nodes`. owner: what all nodes of one launch call it, and no other launch. address: where
    rank 0 is met, "" where node 0 is to say so; port likewise 0. grace_s: from SIGTERM to SIGKILL, where it is known.
    hang_s: None, as the stage has it. in_srun: codes are read by srun, which shoots the other nodes for any but 0."""

    rank: int
    nodes: int
    owner: str
    address: str = ""
    port: int = 0
    grace_s: float | None = None
    hang_s: float | None = None
    join_s: float = JOIN_S
    max_failures: int = MAX_FAILURES
    in_srun: bool = False


def place_of(environment: Mapping[str, str] = os.environ) -> Place:
    """UsageError where the variables contradict themselves, or leave open which launch this is."""
    rank, nodes = _rank_and_nodes(environment)
    if not 0 <= rank < nodes:
        raise UsageError(RANK, f"node {rank} of {nodes}", f"a rank from 0 to {nodes - 1}", f"set {RANK} and {NODES}")
    names = (ATTEMPT, "CLIPMILL_JOB_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
    said = [environment[name] for name in names if environment.get(name)]
    if not said and nodes > 1:
        hint = f"export {ATTEMPT}=<the same text on all nodes, another one for each launch>"
        raise UsageError(ATTEMPT, "is not set", f"what {nodes} nodes know each other by", hint)
    owner = "-".join(said) or f"{socket.gethostname()}-{os.getpid()}-{int(time.time())}"
    grace = environment.get(GRACE)
    return Place(
        rank, nodes, owner,
        address=environment.get(ADDRESS, ""),
        port=int(_number(environment, PORT, 0)),
        grace_s=_number(environment, GRACE, 0.0) if grace else None,
        hang_s=_number(environment, HANG, 0) if environment.get(HANG) else None,
        join_s=_number(environment, JOIN, JOIN_S),
        max_failures=int(_number(environment, FAILURES, MAX_FAILURES)),
        in_srun="SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment,
    )  # fmt: skip


def _rank_and_nodes(environment: Mapping[str, str]) -> tuple[int, int]:
    if RANK in environment:
        return int(_number(environment, RANK, 0)), int(_number(environment, NODES, 1))
    if "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment:
        nodes = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_JOB_NUM_NODES") or 1)
        tasks = int(environment["SLURM_STEP_NUM_TASKS"])
        if tasks != nodes:
            hint = "srun --ntasks-per-node=1: the wrapper starts the ranks of its node itself"
            raise UsageError("srun", f"{tasks} tasks on {nodes} nodes", "one task a node", hint)
        return int(environment["SLURM_PROCID"]), nodes
    if "JOB_COMPLETION_INDEX" in environment and NODES in environment:
        return int(_number(environment, "JOB_COMPLETION_INDEX", 0)), int(_number(environment, NODES, 1))
    if int(_number(environment, NODES, 1)) > 1:
        raise UsageError(RANK, "is not set", f"the rank of this node, {NODES} is {environment[NODES]}", f"{RANK}=0")
    return 0, 1


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        return float(text)
    except ValueError:
        raise UsageError(name, f"found {text!r}", "a number", f"unset {name}") from None


def of_stage(environment: Mapping[str, str]) -> dict[str, str]:
    """What a stage's process inherits: not that this is one task of srun, which it would take for its rank; and the
    same code from wherever it is started."""
    found = {name: value for name, value in environment.items() if name not in _TAKEN_AWAY}
    if found.get("PYTHONPATH"):
        found["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, found["PYTHONPATH"].split(os.pathsep)))
    return found
