"""Ranks on several nodes, each with a launcher of its own: they meet at a place that all were told (static rendezvous).

torchrun is not asked: it turns every exit code into 1, and kills ranks that save for longer than 30 seconds.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError

_RANK, _NODES = "CLIPMILL_NODE_RANK", "CLIPMILL_NODES"
_ADDRESS, _PORT = "CLIPMILL_MASTER_ADDR", "CLIPMILL_MASTER_PORT"


@dataclass(frozen=True)
class Node:
    """rank: of this node, of `nodes`; address, port: where rank 0 listens."""

    rank: int
    nodes: int
    address: str
    port: int


def node_of(environment: Mapping[str, str] = os.environ) -> Node | None:
    """None on a node that is alone. UsageError where a variable is missing or no number."""
    if environment.get(_NODES, "1") == "1":
        return None
    hint = "start it by `clipmill node RUN_DIR STAGE`, which sets them"
    for name in (_NODES, _RANK, _PORT):
        if not environment.get(name, "").isdigit():
            raise UsageError(name, f"found {environment.get(name)!r}", "a number, with several nodes", hint)
    if not environment.get(_ADDRESS):
        raise UsageError(_ADDRESS, "is not set", "where rank 0 is met, with several nodes", hint)
    node = Node(int(environment[_RANK]), int(environment[_NODES]), environment[_ADDRESS], int(environment[_PORT]))
    if node.rank >= node.nodes:
        raise UsageError(_RANK, f"node {node.rank} of {node.nodes}", f"a rank from 0 to {node.nodes - 1}", hint)
    return node


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the node that speaks for all."""
    return environment.get(_RANK, "0") == "0"


def placed(node: Node, local: int, per_node: int) -> dict[str, str]:
    """What rank `local` of this node is told; every node has `per_node` ranks."""
    return {
        "RANK": str(node.rank * per_node + local),
        "WORLD_SIZE": str(node.nodes * per_node),
        "LOCAL_RANK": str(local),
        "LOCAL_WORLD_SIZE": str(per_node),
        "MASTER_ADDR": node.address,
        "MASTER_PORT": str(node.port),
    }
