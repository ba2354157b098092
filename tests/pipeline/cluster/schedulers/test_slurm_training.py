"""Whole runs on a real SLURM: whatever is lost, every step is the undisturbed run's.

Each test prints its figures: seconds until training goes on, and steps done twice (pytest -rP shows them).
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.slurm_cluster import ENVIRONMENT, PYTHON, SlurmCluster
from tests.helpers.tiny_run import metrics, wait_for_step, write_recipe

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]
STEPS, SAVE_EVERY = 60, 10


class Training:
    """One run on two nodes, a rank each, by `clipmill submit --on slurm`."""

    def __init__(self, cluster: SlurmCluster, folder: Path, **train: object) -> None:
        self.cluster, self.folder = cluster, folder
        self.recipe = write_recipe(folder, **{"steps": STEPS, "checkpoint": {"every_steps": SAVE_EVERY}, **train})
        self.output, self.path = folder / "train", folder / "runs/tiny"

    def clipmill(self, *words: str, **environment: str) -> str:
        command = [PYTHON, "-m", "pipeline.cli", *words]
        return self.cluster.run(*command, cwd=self.folder, **{**ENVIRONMENT, **environment})

    def submit(self, *words: str, **environment: str) -> list[int]:
        """Ids of the jobs."""
        plain = ["--option", "time=20", "--option", "signal=B:USR1@60", "--gpus-per-node", "1", "--nodes", "2"]
        said = self.clipmill("submit", str(self.recipe), "--on", "slurm", *plain, *words, **environment)
        return [int(word) for word in said.splitlines()[0].rpartition(":")[2].split(",")]

    def again(self, since: float, limit_s: float = 240.0) -> float:
        """Seconds from `since` until a later attempt has done its first step."""
        before = self.state()["attempt"]
        log, deadline = self.output / "metrics.jsonl", time.monotonic() + limit_s
        while time.monotonic() < deadline:
            size = log.stat().st_size
            self.cluster.hurry()
            time.sleep(0.2)
            if self.state()["attempt"] > before and log.stat().st_size > size:
                return time.time() - since
        raise AssertionError(f"no step after {limit_s} s\n{self.said()}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The run stays at its step meanwhile, however fast the machine: a rank is stopped, the others wait for it."""
        ranks = self.cluster.processes("n2", "pipeline.cli\0train")
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in ranks:
            os.kill(pid, signal.SIGCONT)

    def state(self) -> dict:
        return json.loads((self.path / "state.json").read_text())

    def steps(self) -> list[tuple[int, str, float]]:
        """(step, digest of its pairs, loss) of every line of the log."""
        return [(row["step"], row["digest"], row["loss"]) for row in metrics(self.output)]

    def attempts(self) -> list[dict]:
        return [json.loads(line) for line in (self.path / "attempts.jsonl").read_text().splitlines()]

    def said(self) -> str:
        files = [*sorted(self.path.glob("logs/slurm/*.log")), *sorted(self.path.glob("logs/0*/*.log"))]
        return "\n".join(f"== {path}\n{path.read_text()[-2000:]}" for path in files)


@pytest.fixture(scope="module")
def undisturbed(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, float]]:
    """The steps of a run to which nothing happens, on the same two nodes."""
    slurm.settle()
    run = Training(slurm, tmp_path_factory.mktemp("undisturbed"))
    (job,) = run.submit()
    assert slurm.wait(job, limit_s=300)["JobState"] == "COMPLETED", run.said()
    steps = run.steps()
    assert [step for step, _, _ in steps] == list(range(STEPS))
    assert len({digest for _, digest, _ in steps}) == STEPS
    return steps


def test_preempted(idle, tmp_path, undisturbed):
    run = Training(idle, tmp_path)
    (job,) = run.submit()
    wait_for_step(run.output, 24)
    with run.held():
        at, held_at = time.time(), run.steps()[-1][0]
        other = idle.submit("--partition=high", "--nodes=3", "--exclusive", "--wrap", "srun sleep 1")
        idle.until(lambda: "USR1" in run.said(), "word of the preemption")
    idle.wait(other, limit_s=120)
    freed = time.time()
    lasted = run.again(at)
    print(f"figure: preemption to training again {lasted:.1f} s, of them {time.time() - freed:.1f} s with free nodes")
    start = [each for each in run.attempts() if each["event"] == "start"][-1]
    print(f"figure: preemption: {held_at + 1} steps done before it, training went on at {start['step']}")
    assert idle.wait(job, limit_s=300)["JobState"] == "COMPLETED", run.said()
    assert idle.job(job)["Restarts"] == "1"
    assert run.steps() == undisturbed


def test_at_the_time_limit(idle, tmp_path, undisturbed):
    """The limit is drawn near once it trains, since nobody knows how long a busy machine takes to start."""
    run = Training(idle, tmp_path)
    (job,) = run.submit()
    wait_for_step(run.output, 24)
    with run.held():
        hours, minutes, _ = idle.job(job)["RunTime"].split(":")
        idle.run("scontrol", "update", f"jobid={job}", f"TimeLimit={int(hours) * 60 + int(minutes) + 2}")
        idle.until(lambda: "USR1" in run.said(), "word of the time limit", limit_s=200)
    idle.wait(job, "PENDING", limit_s=240, hurry=False)
    assert run.state()["status"] == "stopped" and "USR1" in run.said()
    idle.run("scontrol", "update", f"jobid={job}", "TimeLimit=20")
    done = idle.wait(job, limit_s=400)
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "1"), run.said()
    assert run.steps() == undisturbed


@pytest.mark.parametrize("by", ["scancel", "clipmill cancel"])
def test_cancelled(idle, tmp_path, undisturbed, by):
    run = Training(idle, tmp_path)
    (job,) = run.submit()
    wait_for_step(run.output, 24)
    with run.held():
        if by == "scancel":
            idle.run("scancel", str(job))
        else:
            run.clipmill("cancel", str(run.path))
    done = idle.wait(job)
    assert done["JobState"] == ("CANCELLED" if by == "scancel" else "FAILED") and done["Restarts"] == "0"
    idle.settle()
    assert len(run.steps()) < STEPS, "cancelled too late to tell"
    assert run.state()["status"] == "stopped", run.said()
    (job,) = run.submit(*(["--uncancel"] if by != "scancel" else []))
    assert idle.wait(job, limit_s=300)["JobState"] == "COMPLETED", run.said()
    assert run.steps() == undisturbed


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_rank_killed(idle, tmp_path, undisturbed, node):
    run = Training(idle, tmp_path)
    (job,) = run.submit()
    wait_for_step(run.output, 24)
    before = run.steps()[-1][0]
    at = time.time()
    for pid in idle.processes(node, "pipeline.cli\0train"):
        os.kill(pid, signal.SIGKILL)
    print(f"figure: kill -9 of a rank to training again {run.again(at):.1f} s")
    done = idle.wait(job, limit_s=300)
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "0"), run.said()
    assert run.steps() == undisturbed
    print(f"figure: lost steps {before + 1 - before // SAVE_EVERY * SAVE_EVERY} at most {SAVE_EVERY}")


@pytest.mark.parametrize("lost", ["n2", "n1"], ids=["another node", "the batch node"])
def test_a_node_without_power(idle, tmp_path, undisturbed, lost):
    run = Training(idle, tmp_path)
    (job,) = run.submit()
    dependent = idle.submit(f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes", "--wrap", "true")
    wait_for_step(run.output, 24)
    before = run.steps()[-1][0]
    at = time.time()
    idle.power_off(lost)
    lasted = run.again(at)
    print(f"figure: power-off of {lost} to training again {lasted:.1f} s (SlurmdTimeout 15 s)")
    start = [each for each in run.attempts() if each["event"] == "start"][-1]
    print(f"figure: power-off of {lost}: {before + 1} steps done, training went on at {start['step']}")
    done = idle.wait(job, limit_s=300)
    assert done["JobState"] == "COMPLETED" and done["Restarts"] == "1", run.said()
    assert idle.wait(dependent)["JobState"] == "COMPLETED"
    assert run.steps() == undisturbed


def test_a_bad_recipe_fails_once(idle, tmp_path):
    """Found only once work has begun: a shard whose bytes are not the manifest's."""
    run = Training(idle, tmp_path)
    for shard in (tmp_path / "data").glob("*.tar"):
        data = bytearray(shard.read_bytes())
        data[700:760] = bytes(60)
        shard.write_bytes(data)
    (job,) = run.submit()
    dependent = idle.submit(f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes", "--wrap", "true")
    done = idle.wait(job)
    assert (done["JobState"], done["ExitCode"], done["Restarts"]) == ("FAILED", "78:0", "0"), run.said()
    assert run.state()["class"] == "data"
    assert len([each for each in run.attempts() if each["event"] == "start"]) == 1
    assert idle.wait(dependent)["JobState"] == "CANCELLED"


def test_a_hang(idle, tmp_path, undisturbed):
    """A rank that is stopped by SIGSTOP holds all: the wrapper of node 0 sees no heartbeat, for longer than a start
    takes on a busy machine."""
    run = Training(idle, tmp_path)
    (job,) = run.submit(CLIPMILL_HANG_S="90")
    wait_for_step(run.output, 24)
    at = time.time()
    for pid in idle.processes("n2", "pipeline.cli\0train"):
        os.kill(pid, signal.SIGSTOP)
    print(f"figure: hang to training again {run.again(at):.1f} s (CLIPMILL_HANG_S 90)")
    done = idle.wait(job, limit_s=300)
    assert done["JobState"] == "COMPLETED", run.said()
    assert "hang" in [each.get("class") for each in run.attempts()]
    assert run.steps() == undisturbed


def test_a_full_shared_disk(idle, tmp_path, undisturbed):
    shared = idle.disk / tmp_path.name
    shared.mkdir()
    run = Training(idle, shared)
    (job,) = run.submit()
    wait_for_step(run.output, 12)
    idle.run("bash", "-c", f"cat /dev/zero >{shared}/ballast", check=False)
    done = idle.wait(job, "PENDING", "FAILED", limit_s=240)
    print(f"figure: full disk: {done['JobState']}, {[each.get('class') for each in run.attempts()]}")
    (shared / "ballast").unlink()
    if done["JobState"] == "FAILED":
        (job,) = run.submit()
    assert idle.wait(job, limit_s=300)["JobState"] == "COMPLETED", run.said()
    assert run.steps() == undisturbed


def test_submitted_twice(idle, tmp_path, undisturbed):
    run = Training(idle, tmp_path)
    (first,) = run.submit(CLIPMILL_ALL_REDUCE="yes")
    wait_for_step(run.output, 5)
    assert "summed 64 MB" in "".join(path.read_text() for path in run.path.glob("logs/slurm/all-reduce-*"))
    with run.held():
        (second,) = run.submit()
        idle.until(lambda: idle.job(second)["Reason"] == "Dependency", "the second waits for the first")
        assert idle.job(second)["JobState"] == "PENDING" and idle.state(first) == "RUNNING"
        assert "Dependency" in run.clipmill("status", str(run.path))
    for job in (first, second):
        assert idle.wait(job, limit_s=300)["JobState"] == "COMPLETED", run.said()
    assert len([each for each in run.attempts() if each["event"] == "start"]) == 1
    assert run.steps() == undisturbed
