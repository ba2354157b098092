"""Two nodes that train, over gloo on loopback: whatever is lost or asked for, each step uses the pairs it should."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pipeline.cluster.rundir import RunDir, create
from pipeline.recipe import load
from tests.helpers.nodes import beats, ended, run_node, start_node, state, until
from tests.helpers.tiny_run import train_here, write_recipe

STEPS, LONG = 48, 400


def two_nodes(run: RunDir, attempt: str) -> list[subprocess.Popen]:
    where = {"NODES": 2, "ATTEMPT": attempt, "MASTER_ADDR": "127.0.0.1"}
    return [start_node(run, NODE_RANK=rank, **where) for rank in (0, 1)]


def digests(output: Path) -> list[str]:
    """Of each step; the log must have every step once."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows)))
    return [row["digest"] for row in rows]


def undisturbed(folder: Path, recipe: Path) -> list[str]:
    """The digests of a run without a run directory, on one rank."""
    assert train_here(recipe, 1, f"train.output={folder / 'plain'}") == [""]
    return digests(folder / "plain")


def _rank(node: subprocess.Popen) -> int | None:
    """The process that trains on a node: with one rank a node, that is what the wrapper has started."""
    try:
        return int(Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()[0])
    except (OSError, IndexError):
        return None


def checkpoints(run: RunDir) -> set[str]:
    return {path.name for path in (run.path / "train/checkpoints").glob("step-*")}


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_a_run_on_two_nodes_survives_what_happens_to_it(tmp_path):
    # No checkpoint but those that are asked for, and steps for longer than the feed takes between two looks.
    recipe = write_recipe(tmp_path, output=None, steps=LONG, checkpoint={"every_steps": 1000})
    run = create(tmp_path / "run", load(str(recipe)))

    nodes = two_nodes(run, "killed")  # a checkpoint is asked for, then a rank on the second node is killed
    until(lambda: beats(run, 7))
    (run.control / "save").touch()
    until(lambda: not (run.control / "save").exists())
    assert len(checkpoints(run)) == 1
    os.kill(until(lambda: _rank(nodes[1])), signal.SIGKILL)
    found = [ended(node) for node in nodes]
    assert [code for code, _ in found] == [1, 1], found
    assert state(run)["status"] == "failed" and state(run)["class"] == "crash"
    saved = state(run)["step"]

    nodes = two_nodes(run, "terminated")  # one node is told to go: both save and stop
    until(lambda: beats(run, saved + 2))
    nodes[1].terminate()
    found = [ended(node) for node in nodes]
    assert [code for code, _ in found] == [75, 75], found
    stopped = state(run)
    assert stopped["status"] == "stopped" and stopped["step"] > saved and stopped["attempt"] == 2
    assert stopped["checkpoint"].endswith(f"step-{stopped['step']:08d}") and Path(stopped["checkpoint"]).is_dir()

    nodes = two_nodes(run, "last")
    found = [ended(node) for node in nodes]
    assert [code for code, _ in found] == [0, 0], found
    assert state(run)["status"] == "completed" and state(run)["step"] == LONG
    assert digests(run.path / "train") == undisturbed(tmp_path, recipe)
    assert {path.name for path in (run.logs / "0003").glob("*.log")} == {"0.log", "1.log"}


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_an_older_attempt_that_wakes_up_commits_nothing(tmp_path):
    """Frozen as a node is that was cut off from the network; the newer attempt goes on meanwhile, and ends."""
    recipe = write_recipe(tmp_path, output=None, steps=STEPS, checkpoint={"every_steps": 6, "keep_last": 50})
    run = create(tmp_path / "run", load(str(recipe)))
    older = start_node(run)
    until(lambda: state(run).get("step", 0) >= 6)
    frozen = [older.pid, until(lambda: _rank(older))]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    code, words = run_node(run)
    assert code == 0 and state(run)["attempt"] == 2, words
    before = [path.read_bytes() for path in (run.state, run.attempts, run.path / "train/metrics.jsonl")]
    left = checkpoints(run)
    for pid in reversed(frozen):
        os.kill(pid, signal.SIGCONT)
    code, words = ended(older)
    assert code == 78 and "has taken over" in words
    assert [path.read_bytes() for path in (run.state, run.attempts, run.path / "train/metrics.jsonl")] == before
    assert checkpoints(run) == left and digests(run.path / "train") == undisturbed(tmp_path, recipe)
