"""Ranks of several nodes: told where they meet, numbered over all nodes."""

import pytest

from pipeline.errors import UsageError
from training.launch.nodes import Node, is_first, node_of, placed

TWO = {"NODE_RANK": "1", "NODES": "2", "MASTER_ADDR": "head", "MASTER_PORT": "4000"}


def variables(**changes):
    return {f"CLIPMILL_{name}": value for name, value in {**TWO, **changes}.items() if value is not None}


def test_a_node_that_is_alone_is_none():
    assert node_of({}) is None and node_of({"CLIPMILL_NODES": "1"}) is None and is_first({})


def test_ranks_are_numbered_over_all_nodes():
    node = node_of(variables())
    assert node == Node(1, 2, "head", 4000) and not is_first(variables())
    found = [placed(Node(rank, 3, "head", 4000), local, 4) for rank in range(3) for local in range(4)]
    assert [int(each["RANK"]) for each in found] == list(range(12))
    assert {each["WORLD_SIZE"] for each in found} == {"12"} and {each["MASTER_ADDR"] for each in found} == {"head"}
    assert [each["LOCAL_RANK"] for each in found[4:8]] == list("0123")


@pytest.mark.parametrize("name", list(TWO))
def test_a_variable_that_is_missing_is_named(name):
    with pytest.raises(UsageError) as caught:
        node_of(variables(**{name: "" if name == "NODES" else None}))
    assert caught.value.where == f"CLIPMILL_{name}"


def test_a_rank_that_no_node_has_is_refused():
    with pytest.raises(UsageError, match="node 2 of 2"):
        node_of(variables(NODE_RANK="2"))
