"""Launching: ranks of our own, of torchrun and of srun; no failure hangs, and its cause is the last thing said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import recipe as recipes
from pipeline.errors import RecipeError, UsageError
from tests.helpers.places import ROOT
from tests.helpers.tiny_run import ENVIRONMENT, finish, kill, metrics, ranks_of, run, start, train_here, write_recipe
from training.launch import launcher
from training.ranks.environment import first_host, job_of, joined

SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[007-010]"}


@pytest.mark.parametrize(("nodes", "first"), [
    ("gpu[003-007,9],login", "gpu003"), ("a", "a"), ("a,b", "a"), ("n[1,3]", "n1"), ("n[08-10]-ib", "n08-ib"),
    ("host-1.example,host-2", "host-1.example"),
])  # fmt: skip
def test_the_first_host_of_a_node_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_an_unreadable_node_list_says_what_to_set() -> None:
    with pytest.raises(UsageError, match="MASTER_ADDR"):
        first_host("")


def test_a_task_of_srun_is_a_rank() -> None:
    place = joined({**SRUN, "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0"})
    assert place["RANK"] == "3" and place["WORLD_SIZE"] == "8" and place["LOCAL_RANK"] == "1"
    assert place["MASTER_ADDR"] == "gpu007" and 10_000 <= int(place["MASTER_PORT"]) < 30_000
    other = joined({**SRUN, "SLURM_JOB_ID": "4712", "SLURM_STEP_ID": "0"})
    assert other["MASTER_PORT"] != place["MASTER_PORT"]
    assert joined({**SRUN, "MASTER_ADDR": "head", "MASTER_PORT": "1"})["MASTER_ADDR"] == "head"


def test_a_batch_script_outside_srun_is_alone_and_torchrun_wins_over_slurm() -> None:
    assert joined({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_ID": "1"}) is None
    assert joined({}) is None and joined({"WORLD_SIZE": "2"}) is None
    under_torchrun = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "h", "MASTER_PORT": "5"}
    assert joined({**SRUN, **under_torchrun}) == under_torchrun


def test_a_job_keeps_its_name_when_it_is_requeued() -> None:
    assert job_of({"SLURM_JOB_ID": "5", "SLURM_RESTART_COUNT": "2"}) == "5" and job_of({}) is None


def test_a_fault_of_the_launch_section_is_said_before_any_rank_is_started(tmp_path: Path) -> None:
    recipe = recipes.load(str(write_recipe(tmp_path)), ["launch.procesess=2"])
    with pytest.raises(RecipeError, match="launch.procesess.*\n.*did you mean `processes`"):
        launcher.start("train", recipe)


def test_the_launcher_itself_never_imports_torch() -> None:
    code = "import sys, training.launch.launcher; sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_wrong_recipe_is_said_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    code, words = run(write_recipe(tmp_path), "train.stepps=3")
    assert code == 2 and "did you mean `steps`" in words, words
    assert words.count("train.stepps") == 1 and "Traceback" not in words


@pytest.mark.exhaustive
def test_damaged_data_is_said_by_the_rank_that_met_it_with_exit_code_78(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    shard = tmp_path / "data" / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    for place in range(600, len(data), 4096):
        data[place] ^= 4
    shard.write_bytes(data)
    code, words = run(recipe, "launch.processes=2")
    assert code == 78 and "shard-000001.tar" in words and "error: rank" in words and "Traceback" not in words, words


def waiting(tmp_path: Path, **train: Any) -> tuple[subprocess.Popen, list[int], list[int]]:
    """(launcher, ranks, their workers), once both ranks of a run whose work is to wait are up."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"launch": {"processes": 2}, "train": {"folder": str(tmp_path), **train}}))
    launcher = start(recipe, rank="tests.helpers.fake_rank")
    names = [f"{kind}-{rank}" for kind in ("up", "worker") for rank in (0, 1)]
    deadline = time.monotonic() + 60
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names):
        assert time.monotonic() < deadline and launcher.poll() is None
        time.sleep(0.01)
    ranks = ranks_of(launcher)
    assert sorted(ranks) == sorted(int((tmp_path / name).read_text()) for name in names[:2])
    return (
        launcher,
        [int((tmp_path / name).read_text()) for name in names[:2]],
        [int((tmp_path / name).read_text()) for name in names[2:]],
    )


def all_gone(pids: list[int]) -> bool:
    def alive(pid: int) -> bool:
        try:
            return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return False

    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_reaches_every_rank_once_and_the_run_is_stopped_not_failed(tmp_path: Path, number: int) -> None:
    launcher, ranks, workers = waiting(tmp_path)
    launcher.send_signal(number)
    code, words = finish(launcher)
    assert code == 75 and words == ""
    assert [(tmp_path / f"heard-{rank}").read_text() for rank in (0, 1)] == [f"[{int(number)}]"] * 2
    assert all_gone(ranks + workers)


def test_no_rank_outlives_a_launcher_killed_with_9(tmp_path: Path) -> None:
    launcher, ranks, _ = waiting(tmp_path)
    kill(launcher.pid)
    assert all_gone(ranks)
    launcher.wait()


def test_a_frozen_rank_cannot_keep_the_run_from_ending(tmp_path: Path) -> None:
    """One rank stopped in its tracks, the other killed: the launcher ends both and says which was the cause."""
    launcher, (frozen, killed), workers = waiting(tmp_path)
    kill(frozen, signal.SIGSTOP)
    kill(killed)
    code, words = finish(launcher)
    assert code == 1 and "rank 1 of 2: was killed by SIGKILL" in words and "hint: run the same command again" in words
    assert all_gone([frozen, *workers])


def test_the_cause_is_told_and_not_what_followed_from_it(tmp_path: Path) -> None:
    """Rank 0 complains of a lost peer first; the reason is rank 1's damaged shard."""
    launcher, ranks, _ = waiting(tmp_path, failing={"0": "theirs", "1": "ours"})
    code, words = finish(launcher)
    assert code == 78 and words == "error: rank 1 of 2: shard-000007.tar: is cut; a whole shard\n"
    assert all_gone(ranks)


def test_an_error_nobody_foresaw_comes_with_its_traceback(tmp_path: Path) -> None:
    launcher, ranks, _ = waiting(tmp_path, failing={"0": "theirs"})
    code, words = finish(launcher)
    assert code == 1 and "rank 0 of 2: Traceback" in words and "Connection closed by peer" in words
    assert all_gone(ranks)


@pytest.mark.exhaustive
def test_torchrun_ranks_are_joined(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=3)
    code = "import sys\nfrom pipeline.recipe import load\nfrom training.launch.launcher import start\n"
    code += "sys.exit(start('train', load(sys.argv[1])))\n"
    script = tmp_path / "go.py"
    script.write_text(code)
    root = str(ROOT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    done = subprocess.run(
        [*torchrun, str(script), str(recipe)],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": root},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "train" / "checkpoints" / "step-00000003" / "state.json").read_text())
    assert state["world"] == 2 and len(metrics(tmp_path / "train")) == 3
    again = write_recipe(tmp_path, output=str(tmp_path / "alone"), steps=3)
    assert train_here(again, 1) == [""]
    digests = [[row["digest"] for row in metrics(tmp_path / name)] for name in ("train", "alone")]
    assert digests[0] == digests[1]
