"""How an attempt ended, from what is known for sure."""

import pytest

from pipeline.cluster.node.verdict import Verdict, closest_to_cause, exit_code_of, last_error, of_process
from pipeline.cluster.rundir import State

STOPPED = Verdict("stopped", asked=True)
CRASH = Verdict("failed", "crash", "lost a peer")


@pytest.mark.parametrize(("verdict", "held", "in_srun", "failures", "code"), [
    (Verdict("completed"), "", False, 0, 0),
    (STOPPED, "", False, 0, 75),
    (STOPPED, "", True, 0, 0),
    (STOPPED, "cancelled", False, 0, 0),
    (STOPPED, "", False, 9, 75),
    (Verdict("stopped"), "", False, 2, 75),  # nobody asked: Ray was lost, a budget is spent
    (Verdict("stopped"), "", False, 3, 78),
    (Verdict("failed", "config"), "", False, 1, 78),
    (Verdict("failed", "data"), "", True, 1, 78),
    (Verdict("failed", "node"), "", False, 1, 71),
    (CRASH, "", False, 2, 1),
    (CRASH, "", False, 3, 78),
    (CRASH, "cancelled", False, 1, 78),
    (Verdict("failed", "hang"), "", True, 1, 1),
])  # fmt: skip
def test_the_exit_code(verdict, held, in_srun, failures, code):
    assert exit_code_of(verdict, held, in_srun, failures, limit=3) == code


def test_of_several_nodes_the_cause_counts():
    killed = Verdict("failed", "crash", "rank 3 of 4: was killed by SIGKILL")
    data = Verdict("failed", "data", "shard is cut")
    for found, cause in (([CRASH, killed], killed), ([killed, CRASH, data], data), ([STOPPED, CRASH], CRASH)):
        assert closest_to_cause(found) is cause and closest_to_cause(found[::-1]) is cause


def test_the_last_error_of_a_log_with_its_hint(tmp_path):
    log = tmp_path / "log"
    log.write_text("error: first\n" + "x" * 70_000 + "\nerror: rank 1: shard is cut\nhint: make it again\nbye\n")
    assert last_error(log) == "rank 1: shard is cut\nhint: make it again"
    log.write_text("all is well\n")
    assert last_error(log) == "" == last_error(tmp_path / "none")


def test_what_rank_0_has_left_counts_more_than_a_code(tmp_path):
    state = State(stage="train", status="completed", attempt=1, owner="a")
    assert of_process(1, tmp_path, False, False, state).status == "completed"
    assert of_process(-9, tmp_path, False, False, None) == Verdict("failed", "crash", "ended by signal 9")


def test_a_stage_that_is_told_before_it_listens_has_stopped(tmp_path):
    assert of_process(-15, tmp_path, True, True, None) == Verdict("stopped", None, "stopped before it had begun", True)
    assert of_process(-15, tmp_path, False, True, None).fault == "crash"


@pytest.mark.parametrize("first", ["error: rank 1 of 2: ", ""])
def test_an_error_that_is_not_ours_is_told_by_its_last_line(tmp_path, first):
    trace = "Traceback (most recent call last):\n  File x\n    y\n"
    log = tmp_path / "log"
    log.write_text(f"{trace}KeyError: 'a'\n\nDuring handling ...\n\n{first}{trace}RuntimeError: lost a peer\n\n")
    assert last_error(log) == "RuntimeError: lost a peer"
    log.write_text(f"{first}{trace}RuntimeError: CUDA error: uncorrectable ECC error encountered\nCUDA kernel ...\n")
    assert of_process(1, log, False, True, None).fault == "node"
