"""Which node this is, as each scheduler says it."""

import os

import pytest

from pipeline.cluster.node.place import of_stage, place_of
from pipeline.errors import UsageError

SRUN = {
    "SLURM_PROCID": "2", "SLURM_NODEID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "4",
    "SLURM_JOB_NUM_NODES": "5", "SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "1", "SLURM_STEP_ID": "3",
}  # fmt: skip


def test_alone():
    place = place_of({})
    assert (place.rank, place.nodes, place.in_srun, place.grace_s) == (0, 1, False, None) and place.owner


def test_plain_variables():
    plain = {"NODE_RANK": "1", "NODES": "2", "ATTEMPT": "x", "MASTER_ADDR": "h", "MASTER_PORT": "5", "GRACE_S": "9"}
    place = place_of({f"CLIPMILL_{name}": value for name, value in plain.items()})
    assert (place.rank, place.nodes, place.owner, place.address, place.port, place.grace_s) == (1, 2, "x", "h", 5, 9.0)


def test_a_task_of_srun_on_fewer_nodes_than_the_job_has():
    place = place_of(SRUN)
    assert (place.rank, place.nodes, place.owner, place.in_srun) == (2, 4, "77-1-3", True)
    assert place_of({**SRUN, "SLURM_STEP_ID": "4"}).owner != place.owner  # started again in the same allocation


def test_a_batch_script_is_no_task_of_srun():
    assert not place_of({"SLURM_PROCID": "0", "SLURM_JOB_ID": "77"}).in_srun


def test_several_tasks_a_node_are_refused():
    with pytest.raises(UsageError, match="ntasks-per-node=1"):
        place_of({**SRUN, "SLURM_STEP_NUM_TASKS": "8"})


def test_an_indexed_job_of_kubernetes():
    place = place_of({"JOB_COMPLETION_INDEX": "3", "CLIPMILL_NODES": "4", "CLIPMILL_ATTEMPT": "uid"})
    assert (place.rank, place.nodes, place.owner) == (3, 4, "uid")


@pytest.mark.parametrize(("variables", "name"), [
    ({"CLIPMILL_NODE_RANK": "2", "CLIPMILL_NODES": "2", "CLIPMILL_ATTEMPT": "x"}, "CLIPMILL_NODE_RANK"),
    ({"CLIPMILL_NODE_RANK": "0", "CLIPMILL_NODES": "2"}, "CLIPMILL_ATTEMPT"),
    ({"CLIPMILL_NODES": "2", "CLIPMILL_ATTEMPT": "x"}, "CLIPMILL_NODE_RANK"),
    ({"CLIPMILL_NODE_RANK": "one"}, "CLIPMILL_NODE_RANK"),
    ({"CLIPMILL_HANG_S": "soon"}, "CLIPMILL_HANG_S"),
])  # fmt: skip
def test_what_contradicts_itself_names_the_variable(variables, name):
    with pytest.raises(UsageError) as caught:
        place_of(variables)
    assert caught.value.where == name and caught.value.hint


def test_a_stage_does_not_take_the_wrapper_for_its_rank():
    found = of_stage({**SRUN, "RANK": "1", "WORLD_SIZE": "2", "HOME": "/h", "PYTHONPATH": "."})
    assert found["SLURM_JOB_ID"] == "77" and found["HOME"] == "/h" and found["PYTHONPATH"] == os.getcwd()
    assert not found.keys() & {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "RANK", "WORLD_SIZE"}
