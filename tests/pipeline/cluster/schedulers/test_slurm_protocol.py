"""The shell of the job files on a real SLURM: what it does for each end of its work, with a stand-in for the work."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.slurm_cluster import SlurmCluster


class Run:
    """A run directory with a plan for the stand-in, and what the job files left in it."""

    def __init__(self, cluster: SlurmCluster, folder: Path, **plan: object) -> None:
        self.cluster, self.folder, self.path = cluster, folder, folder / "run"
        self.path.mkdir()
        (self.path / "run.yaml").touch()
        (self.path / "plan.json").write_text(json.dumps(plan))
        bin_ = folder / "venv/bin"
        bin_.mkdir(parents=True)
        (bin_ / "activate").touch()
        (bin_ / "clipmill").write_text(f'#!/bin/sh\nexec {sys.executable} -S {ROOT}/tests/helpers/fake_node.py "$@"\n')
        (bin_ / "clipmill").chmod(0o755)

    def sbatch(self, stage: str, *flags: str, target: object = None, **environment: str) -> int:
        given = {"CLIPMILL_VENV": str(self.folder / "venv"), "CLIPMILL_SLURM_DIR": str(ROOT / "slurm"), **environment}
        plain = ["--gpus-per-node=1"] if stage != "curate" else []
        words = [*plain, *flags, f"{ROOT}/slurm/{stage}.sbatch", str(target or self.path)]
        return self.cluster.submit("--time=20", *words, cwd=self.folder, **given)

    def wait_for_step(self, step: int, stage: str = "train", limit_s: float = 60.0) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if step in [each for each, _ in self.steps(stage)]:
                return
            time.sleep(0.05)
        raise AssertionError(f"no step {step} after {limit_s} s\n{self.said()}\n{self.cluster.words()}")

    def steps(self, stage: str = "train") -> list[tuple[int, float]]:
        path = self.path / "steps"
        words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(step), float(at)) for name, step, at in words if name == stage]

    def lost(self, stage: str = "train") -> int:
        """Steps that were done more than once."""
        done = [step for step, _ in self.steps(stage)]
        return len(done) - len(set(done))

    def starts(self) -> list[list[str]]:
        """attempt, stage, rank, nodes, host, address, grace of every wrapper that was started."""
        path = self.path / "started"
        return sorted(line.split() for line in path.read_text().splitlines()) if path.exists() else []

    def state(self) -> dict[str, object]:
        return json.loads((self.path / "state.json").read_text())

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@pytest.mark.exhaustive
def test_each_node_has_its_rank_and_rank_0_is_met_by_name(idle, tmp_path):
    run = Run(idle, tmp_path, steps=5)
    job = run.sbatch("train")
    assert idle.wait(job)["JobState"] == "COMPLETED", run.said()
    port = 20000 + job * 4 % 10000
    assert run.starts() == [
        [f"{job}.0.0", "train", "0", "2", "n1", f"n1:{port}", "240"],
        [f"{job}.0.0", "train", "1", "2", "n2", f"n1:{port}", "240"],
    ]
    again = run.sbatch("train")
    assert idle.wait(again)["JobState"] == "COMPLETED"
    assert "finished before" in run.said() and len(run.starts()) == 2


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_recipe_submitted_by_hand_gets_its_run_directory_once(idle, tmp_path):
    run = Run(idle, tmp_path, steps=40)
    (run.path / "run.yaml").unlink()
    job = run.sbatch("train", target="recipe.yaml")
    run.wait_for_step(3)
    made = (run.path / "run.yaml").stat().st_mtime_ns
    assert (run.path / "run.yaml").read_text() == "recipe.yaml --on slurm --dry-run"
    idle.run("scontrol", "requeue", str(job))
    assert idle.wait(job)["JobState"] == "COMPLETED"
    assert (run.path / "run.yaml").stat().st_mtime_ns == made
    assert idle.job(job)["Comment"] == f"clipmill:{run.path}"


@pytest.mark.exhaustive
def test_teachers_have_a_node_to_themselves_and_save_when_they_must_go(idle, tmp_path):
    run = Run(idle, tmp_path, steps=40)
    job = run.sbatch("reinforce", "--nodelist=n2")
    dependent = run.sbatch("train", f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes")
    run.wait_for_step(10, "reinforce")
    idle.run("scontrol", "requeue", str(job))
    assert idle.wait(job)["JobState"] == "COMPLETED", run.said()
    assert [start[1:5] for start in run.starts()] == [["reinforce", "0", "1", "n2"]] * 2
    assert run.lost("reinforce") == 0 and len(run.steps("reinforce")) == 40
    assert idle.wait(dependent)["JobState"] == "COMPLETED", run.said()


@pytest.mark.exhaustive
def test_preempted_it_saves_is_requeued_and_its_dependent_waits(idle, tmp_path):
    run = Run(idle, tmp_path, steps=60)
    job = run.sbatch("train", "--nodes=3")
    dependent = run.sbatch("eval", f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes")
    run.wait_for_step(10)
    other = idle.submit("--partition=high", "--nodes=3", "--exclusive", "--wrap", "srun sleep 2")
    idle.wait(job, "PENDING")
    saved = run.state()
    assert saved["status"] == "stopped" and not (run.path / "control/stop").exists()
    assert idle.wait(other)["JobState"] == "COMPLETED"
    done = idle.wait(job)
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "1"), run.said()
    assert run.lost() == 0 and [step for step, _ in run.steps()] == list(range(1, 61))
    assert idle.wait(dependent)["JobState"] == "COMPLETED"


@pytest.mark.exhaustive
def test_at_its_time_limit_it_saves_and_is_requeued(idle, tmp_path):
    run = Run(idle, tmp_path, steps=600)  # SLURM looks at limits twice a minute
    job = run.sbatch("train", "--time=2", "--signal=B:USR1@90")
    done = idle.wait(job, limit_s=280)
    assert done["JobState"] == "COMPLETED" and int(done["Restarts"]) >= 1, run.said()
    assert run.lost() == 0 and "USR1" in run.said()


@pytest.mark.exhaustive
def test_cancelled_it_saves_and_never_comes_back(idle, tmp_path):
    run = Run(idle, tmp_path, steps=600)
    job = run.sbatch("train")
    dependent = run.sbatch("eval", f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes")
    run.wait_for_step(7)
    idle.run("scancel", str(job))
    assert idle.wait(job)["JobState"] == "CANCELLED"
    assert idle.wait(dependent)["JobState"] == "CANCELLED"
    idle.settle()
    assert idle.job(job)["Restarts"] == "0" and "not requeued from here" in run.said()
    assert run.state()["status"] == "stopped"
    saved = run.state()["step"]
    (run.path / "plan.json").write_text(json.dumps({"steps": saved + 3}))
    assert idle.wait(run.sbatch("train"))["JobState"] == "COMPLETED"  # submitted again it goes on
    assert run.lost() == 0


def successor(run: Run, job: int) -> int:
    """The job that waits to go on after one that may not be requeued."""
    run.cluster.until(lambda: f"job {job}.0: this job may not be requeued: job " in run.said(), "successor")
    events = [json.loads(line) for line in (run.path / "attempts.jsonl").read_text().split("\n") if line]
    (found,) = [int(each["job"]) for each in events if each["event"] == "successor" and each["of"] == str(job)]
    return found


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lost", ["preempted", "at its time limit", "without its batch node", "without another node"])
def test_a_job_that_may_not_be_requeued_goes_on_as_another_one(idle, tmp_path, lost):
    """The next stage waits for the other one, which has the flags of the first."""
    steps = {"without another node": 600, "at its time limit": 600}.get(lost, 60)  # until SLURM has seen it
    run = Run(idle, tmp_path, steps=steps)
    limit = ["--time=2", "--signal=B:USR1@90"] if "limit" in lost else []
    job = run.sbatch("train", "--nodes=2", "--no-requeue", "--nodelist=n1,n2", "--comment=mine", *limit)
    dependent = run.sbatch("eval", f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes")
    run.wait_for_step(10)
    other = successor(run, job)
    if lost == "preempted":
        idle.submit("--partition=high", "--nodes=3", "--exclusive", "--wrap", "srun sleep 2")
    elif "node" in lost:
        idle.power_off("n1" if "batch" in lost else "n2")
    assert idle.wait(job, limit_s=200)["JobState"] in ("PREEMPTED", "FAILED", "NODE_FAIL")
    while idle.wait(other, limit_s=200)["JobState"] == "FAILED" and "limit" in lost:  # it has the same
        other = successor(run, other)
    done, before = idle.job(other), idle.job(job)
    assert done["JobState"] == "COMPLETED", run.said()
    same = ("Partition", "TimeLimit", "NumNodes", "TresPerNode", "JobName", "Requeue", "Command")
    assert [done[key] for key in same] == [before[key] for key in same] and done["Requeue"] == "0"
    assert {step for step, _ in run.steps()} == set(range(1, steps + 1)) and ("node" in lost or run.lost() == 0)
    assert idle.wait(dependent)["JobState"] == "COMPLETED"
    last = successor(run, other)
    assert idle.wait(last)["JobState"] == "CANCELLED" and len({start[0] for start in run.starts()}) >= 3


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["scancel", "bad recipe"])
def test_a_job_that_may_not_be_requeued_and_must_not_go_on_leaves_none_behind(idle, tmp_path, how):
    run = Run(idle, tmp_path, steps=600, at={"12": "config"} if how == "bad recipe" else {})
    job = run.sbatch("train", "--no-requeue")
    dependent = run.sbatch("eval", f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes")
    run.wait_for_step(7)
    other = successor(run, job)
    if how == "scancel":
        idle.run("scancel", str(job))
    assert idle.wait(job)["JobState"] == {"scancel": "CANCELLED", "bad recipe": "FAILED"}[how]
    assert [idle.wait(each)["JobState"] for each in (other, dependent)] == ["CANCELLED", "CANCELLED"]
    assert len({start[0] for start in run.starts()}) == 1


@pytest.mark.exhaustive
def test_stopped_by_the_user_it_saves_and_stays_stopped(idle, tmp_path):
    run = Run(idle, tmp_path, steps=600)
    job = run.sbatch("train")
    run.wait_for_step(7)
    (run.path / "control/stop").write_text("user\n")
    done = idle.wait(job)
    assert (done["JobState"], done["ExitCode"], done["Restarts"]) == ("FAILED", "75:0", "0"), run.said()


@pytest.mark.exhaustive
def test_a_crash_is_tried_again_in_the_same_allocation(idle, tmp_path):
    run = Run(idle, tmp_path, steps=12, at={"7": "crash", "8": "hang"}, nap_s=0.2)
    job = run.sbatch("train")
    run.wait_for_step(8)
    (pid,) = idle.processes("n1", "fake_node.py\0node")
    # Killed with -9: nothing is said by the wrapper, and the other node's is ended by srun.
    os.kill(pid, signal.SIGKILL)
    done = idle.wait(job)
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "0"), run.said()
    assert [start[0] for start in run.starts()] == [f"{job}.0.{n}" for n in (0, 0, 1, 1, 2, 2)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault, code", [("config", "78:0")])
def test_a_bad_recipe_fails_once(idle, tmp_path, fault, code):
    run = Run(idle, tmp_path, steps=12, at={"7": fault})
    job = run.sbatch("train")
    done = idle.wait(job)
    assert (done["JobState"], done["ExitCode"], done["Restarts"]) == ("FAILED", code, "0"), run.said()
    assert len(run.starts()) == 2 and f"{fault} at 7" in run.said()


@pytest.mark.exhaustive
def test_a_wrapper_that_never_starts_is_not_tried_for_ever(idle, tmp_path):
    run = Run(idle, tmp_path)
    shutil.rmtree(tmp_path / "venv")
    done = idle.wait(run.sbatch("train"))
    assert (done["JobState"], done["ExitCode"]) == ("FAILED", "78:0"), run.said()


@pytest.mark.exhaustive
def test_a_spare_stands_in_for_an_unfit_node(idle, tmp_path):
    run = Run(idle, tmp_path, steps=5)
    idle.run("mount", "-o", "remount,size=1m", "/dev/shm", node="n2")
    try:
        job = run.sbatch("train", "--nodes=3", CLIPMILL_SPARES="1")
        assert idle.wait(job)["JobState"] == "COMPLETED", run.said()
    finally:
        idle.run("mount", "-o", "remount,size=2g", "/dev/shm", node="n2")
    assert [(rank, host) for _, _, rank, _, host, _, _ in run.starts()] == [("0", "n1"), ("1", "n3")]
    assert "n2 /dev/shm: 1 MB free" in (run.path / "unfit_nodes").read_text()


@pytest.mark.exhaustive
@pytest.mark.parametrize("lost", ["n1", "n2"], ids=["the batch node", "another node"])
def test_a_node_without_power_costs_the_steps_since_the_last_save(idle, tmp_path, lost):
    run = Run(idle, tmp_path, steps=60, save_every=5)
    job = run.sbatch("train", "--nodes=2", "--nodelist=n1,n2")
    run.wait_for_step(13)
    idle.power_off(lost)
    idle.wait(job, "PENDING")
    idle.run("scontrol", "update", f"jobid={job}", "ReqNodeList=", check=False)
    done = idle.wait(job)
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "1"), run.said()
    assert {step for step, _ in run.steps()} == set(range(1, 61))
