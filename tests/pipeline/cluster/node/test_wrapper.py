"""The wrapper around a stage that does as it is told: exit codes, stops, hangs, the budget, fencing, several nodes."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pipeline.cluster.node.stage import descendants
from pipeline.cluster.rundir import create
from pipeline.cluster.rundir.attempts import note
from pipeline.recipe import load
from tests.helpers.datasets import make_dataset
from tests.helpers.nodes import beats, ended, fake_run, run_node, start_node, state, until


def attempts(run):
    return [json.loads(line) for line in run.attempts.read_text().splitlines()]


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("script", "code", "status", "fault", "message"), [
    ("exit 0", 0, "completed", None, ""),
    ("saved 5; stopped; exit 75", 75, "stopped", None, "stopped as asked"),
    ("say error: shard-1.tar: is cut; exit 78", 78, "failed", "data", "shard-1.tar: is cut"),
    ("say error: train.steps: found x; exit 2", 78, "failed", "config", "train.steps: found x"),
    ("exit 3", 1, "failed", "crash", "ended with code 3"),
    ("stopped; exit 1", 75, "stopped", None, "stopped as asked"),  # what rank 0 has said counts, not what came of it
])  # fmt: skip
def test_an_attempt_ends_with_the_code_of_the_contract(tmp_path, script, code, status, fault, message):
    run = fake_run(tmp_path)
    found, words = run_node(run, script=script)
    told = state(run)
    assert (found, told["status"], told["class"], told["message"]) == (code, status, fault, message), words
    assert told["exit_code"] == code and told["attempt"] == 1
    start, end = attempts(run)
    assert (start["event"], end["event"], end["status"], end["class"]) == ("start", "end", status, fault)
    assert json.loads((run.logs / "0001/0.json").read_text())["exit_code"] == code


def test_relative_paths_begin_where_the_run_was_submitted(tmp_path, monkeypatch):
    """The wrapper of these tests is started elsewhere, in the root of the repository."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    run = fake_run(tmp_path, curate={"output": "out/data"}, train={"data": ["out/data"]})
    for name in ("_pool/parts/0.json", "_pool/parts/1.json"):
        (home / "out/data" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "out/data" / name).write_text("{}")
    assert run_node(run, "curate", script="exit 1")[0] == 1
    assert [event["committed"] for event in attempts(run)] == [{"pool/parts": 2}] * 2
    code, words = run_node(run, "train", script="exit 0")
    assert code == 78 and "no manifest.json" in words
    make_dataset(str(home / "out/data"), shards=1, pairs=4)
    assert run_node(run, "train", script="exit 0")[0] == 0
    assert attempts(run)[-1]["status"] == "completed"


def test_what_the_stage_says_is_in_the_log_and_on_the_output(tmp_path):
    run = fake_run(tmp_path)
    _, words = run_node(run, script="say hello from the stage")
    assert "hello from the stage" in words
    assert (run.logs / "0001/0.log").read_text() == "hello from the stage\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_is_passed_on_once_as_a_stop(tmp_path, number):
    run = fake_run(tmp_path)
    node = start_node(run, script="beat 1; wait; saved 3; stopped; exit 75")
    until(lambda: beats(run, 1))
    node.send_signal(number)
    node.send_signal(number)
    code, words = ended(node)
    assert code == 75 and state(run)["step"] == 3, words


def test_a_touched_stop_is_for_one_attempt_and_a_users_stop_holds(tmp_path):
    run = fake_run(tmp_path)
    node = start_node(run, script="beat 1; wait; saved 3; stopped; exit 75")
    until(lambda: beats(run, 1))
    (run.control / "stop").touch()
    assert ended(node)[0] == 75
    node = start_node(run, script="beat 4; wait; saved 5; stopped; exit 75")
    until(lambda: beats(run, 4))
    assert not (run.control / "stop").exists()
    (run.control / "stop").write_text("user\n")
    assert ended(node)[0] == 0  # nothing is to be started again
    assert state(run)["status"] == "stopped" and state(run)["step"] == 5
    assert run_node(run, script="exit 9") == (0, f"{run.path}: train: nothing to do, stopped by user\n")
    assert len(attempts(run)) == 4
    create(run.path, load(str(tmp_path / "recipe.yaml")))
    assert run_node(run, script="exit 0")[0] == 0 and state(run)["status"] == "completed"


def test_a_cancelled_run_stays_cancelled(tmp_path):
    run = fake_run(tmp_path)
    node = start_node(run, script="beat 1; wait; saved 3; stopped; exit 75")
    until(lambda: beats(run, 1))
    (run.control / "cancel").touch()
    node.terminate()
    assert ended(node)[0] == 0
    for _ in range(2):
        code, words = run_node(run, script="exit 9")
        assert code == 0 and "cancelled" in words
    assert len(attempts(run)) == 2


def test_what_was_completed_is_not_done_again(tmp_path):
    run = fake_run(tmp_path)
    run_node(run, script="exit 0")
    assert run_node(run, script="exit 9") == (0, f"{run.path}: train: nothing to do, it was completed before\n")


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_silent_stage_is_ended_as_a_hang_with_all_that_came_of_it(tmp_path):
    run, orphan = fake_run(tmp_path), tmp_path / "orphan"
    code, words = run_node(run, script=f"orphan {orphan}; beat 1; sleep 300", HANG_S=15)
    assert code == 1 and state(run)["class"] == "hang" and "no heartbeat for" in state(run)["message"], words
    assert not is_alive(int(orphan.read_text()))


def test_a_stage_that_outlives_its_grace_is_ended(tmp_path):
    run = fake_run(tmp_path)
    node = start_node(run, script="beat 1; sleep 300", GRACE_S=2)
    until(lambda: beats(run, 1))
    node.terminate()
    assert ended(node)[0] == 1 and "CLIPMILL_GRACE_S" in state(run)["message"]


def failed_before(run, times: int, cut_off: bool = False) -> None:
    """As if attempts had failed, or been cut off: a node that loses its power leaves no word."""
    for attempt in range(1, times + 1):
        run.attempt_logs(attempt).mkdir()
        note(run, "start", attempt=attempt, stage="train", step=0)
        if not cut_off:
            note(run, "end", attempt=attempt, stage="train", step=0, status="failed")


def test_three_failures_without_progress_end_it(tmp_path):
    run = fake_run(tmp_path)
    failed_before(run, 2)
    assert run_node(run, script="saved 5; exit 1")[0] == 1  # progress
    assert run_node(run, script="exit 1")[0] == 1
    assert run_node(run, script="exit 1", MAX_FAILURES=2)[0] == 78
    assert state(run)["exit_code"] == 78 and state(run)["attempt"] == 5
    assert "2 attempts in a row without a newer checkpoint" in state(run)["message"]


@pytest.mark.exhaustive
def test_a_curation_goes_on_for_as_long_as_each_attempt_commits_something(tmp_path):
    """Without a manifest all the while: three that end too early are no reason to give up, three in vain are."""
    run = fake_run(tmp_path, curate={"sources": []})
    part = f"{run.path}/curate/_pool/parts/{{}}/part.json"
    for number in range(3):
        code, words = run_node(run, "curate", f"commit {part.format(number)}; exit 1")
        assert code == 1, words
    for code in (1, 1, 78):
        assert run_node(run, "curate", f"commit {part.format(2)}; exit 1")[0] == code  # done again: no gain
    assert "3 attempts in a row without a newer checkpoint, manifest or finished part" in state(run)["message"]
    starts = [each["committed"] for each in attempts(run) if each["event"] == "start"]
    assert starts == [{}, *({"pool/parts": number} for number in (1, 2, 3, 3, 3))]


def test_attempts_that_were_cut_off_count_too(tmp_path):
    run = fake_run(tmp_path)
    failed_before(run, 3, cut_off=True)
    code, _ = run_node(run, script="saved 9; exit 0")
    assert code == 78 and "in a row without" in state(run)["message"] and state(run)["step"] == 0


@pytest.mark.parametrize("named", [{}, {"ATTEMPT": "the same"}], ids=["apart", "alike"])
def test_a_newer_attempt_takes_over_and_the_older_one_leaves_no_trace(tmp_path, named):
    """Numbered by the run directory, whatever the scheduler calls them: Kueue starts a job again by the same name."""
    run = fake_run(tmp_path)
    older = start_node(run, script="beat 1; sleep 60", **named)
    until(lambda: beats(run, 1))
    os.kill(older.pid, signal.SIGSTOP)
    assert run_node(run, script="saved 7; exit 0", **named)[0] == 0
    before = (run.state.read_bytes(), run.attempts.read_bytes())
    os.kill(older.pid, signal.SIGCONT)
    code, words = ended(older)
    assert code == 78 and "attempt 2" in words and "has taken over" in words
    assert (run.state.read_bytes(), run.attempts.read_bytes()) == before


def two(run, scripts, **variables):
    """Two nodes of one launch."""
    common = {"NODES": 2, "ATTEMPT": "one", **variables}
    return [start_node(run, script=script, NODE_RANK=rank, **common) for rank, script in enumerate(scripts)]


def test_the_cause_on_one_node_is_the_verdict_of_all(tmp_path):
    """Node 0 only lost a peer; node 1 met a damaged shard. Both end as that, for good."""
    run = fake_run(tmp_path)
    lost = f"meet {run.log(1, 1)}; say error: rank 0 of 2: connection closed; exit 1"
    cause = "say error: shard-1.tar: is cut; exit 78"
    nodes = two(run, [lost, cause])
    assert [ended(node)[0] for node in nodes] == [78, 78]
    assert state(run)["class"] == "data" and state(run)["message"] == "shard-1.tar: is cut"
    assert (run.logs / "0001/1.log").exists()


def test_ranks_that_do_not_notice_a_lost_node_are_ended(tmp_path):
    run = fake_run(tmp_path)
    nodes = two(run, ["beat 1; sleep 300", "exit 1"])
    assert [ended(node)[0] for node in nodes] == [1, 1]
    assert state(run)["class"] == "crash"


@pytest.mark.exhaustive
def test_nodes_that_are_started_again_by_the_same_name_do_not_join_what_is_gone(tmp_path):
    """As after an eviction by Kueue. The one whose node 0 lost its power comes first, and node 0 a while later."""
    run = fake_run(tmp_path)
    nodes = two(run, ["beat 1; sleep 300", "sleep 300"])
    until(lambda: beats(run, 1) and run.log(1, 1).exists())
    for node in nodes:
        for pid in [node.pid, *descendants(node.pid)]:
            os.kill(pid, signal.SIGKILL)
        node.wait()
    assert not run.verdict(1, 0).exists() and json.loads(run.lock.read_text())["owner"] == "one"
    first, other = (dict(script="saved 9; exit 0", NODES=2, ATTEMPT="one", NODE_RANK=rank) for rank in (0, 1))
    waits = start_node(run, **other)
    size = run.log(1, 1).stat().st_size
    with pytest.raises(subprocess.TimeoutExpired):
        waits.wait(6)
    assert run.log(1, 1).stat().st_size == size
    found = start_node(run, **first)
    assert (ended(found)[0], ended(waits)[0]) == (0, 0)
    assert run.log(2, 1).exists() and state(run)["attempt"] == 2 and state(run)["status"] == "completed"


def test_a_node_alone_does_not_wait_for_ever(tmp_path):
    run = fake_run(tmp_path)
    node = start_node(run, script="exit 0", NODE_RANK=1, NODES=2, ATTEMPT="one", JOIN_S=1)
    code, words = ended(node)
    assert code == 1 and "has not begun within 1 s" in words


def test_a_stage_that_the_recipe_lacks_is_never_tried_again(tmp_path):
    code, words = run_node(fake_run(tmp_path), "eval", "exit 0")
    assert code == 78 and "has no section `eval`" in words


def test_training_waits_for_no_dataset_that_was_not_finished(tmp_path):
    run = fake_run(tmp_path, curate={"sources": []}, train={"steps": 1})
    code, words = run_node(run, "train", "exit 0")
    assert code == 78 and state(run)["class"] == "data" and "no manifest.json" in words
