"""curate -> train -> eval on a real SLURM, each waiting for the one before; every curated byte as in one process."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers import small_crawl
from tests.helpers.places import ROOT
from tests.helpers.slurm_cluster import ENVIRONMENT, PYTHON, SlurmCluster
from tests.helpers.tiny_run import MODEL, metrics, write_eval_set

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]


class Pipeline:
    """A recipe of all three sections in `folder`, and what one process curates by it."""

    def __init__(self, cluster: SlurmCluster, folder: Path) -> None:
        self.cluster, self.folder, self.path = cluster, folder, folder / "runs/whole"
        crawl = small_crawl.write(folder / "crawl", small_crawl.records(96), files=4)
        section = small_crawl.recipe(crawl, folder / "data", folder / "entries.json")
        curate(CurateSettings.model_validate({**section, "output": str(folder / "alone")}), name="whole", seed=3)
        self.wanted = small_crawl.outcome(folder / "alone")
        del section["ray"]
        train: dict[str, Any] = {
            "steps": 8, "model": {"config": MODEL}, "batch": {"global": 8, "chunk": 4}, "optimizer": {"lr": 0.003},
            "schedule": {"kind": "cosine", "warmup_steps": 2}, "image": {"resize": "squash"},
            "reader": {"workers": 0, "window": 8}, "engine": {"zero_stage": 0}, "checkpoint": {"every_steps": 4},
        }  # fmt: skip
        sets = [{"kind": "retrieval", "name": "pictures", "path": str(write_eval_set(folder / "pictures", 9, "txt"))}]
        recipe = {
            "name": "whole", "seed": 3, "launch": {"processes": 1, "threads": 1},
            "curate": section, "train": train, "eval": {"sets": sets},
        }  # fmt: skip
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))

    def clipmill(self, *words: str) -> str:
        return self.cluster.run(PYTHON, "-m", "pipeline.cli", *words, cwd=self.folder, **ENVIRONMENT)

    def submit(self, *words: str) -> list[int]:
        plain = ["--option", "time=30", "--option", "signal=B:USR1@60", "--gpus-per-node", "1", "--nodes", "2"]
        said = self.clipmill("submit", "recipe.yaml", "--on", "slurm", *plain, *words)
        return [int(word) for word in said.splitlines()[0].rpartition(":")[2].split(",")]

    def submit_shares(self, *more: str) -> tuple[int, int]:
        """By hand: an array of three that curate a share each, and the job that waits for them."""
        environment = {**ENVIRONMENT, "CLIPMILL_VENV": str(Path(PYTHON).parents[1])}
        environment["CLIPMILL_SLURM_DIR"] = str(ROOT / "slurm")
        flags = ["--time=10", "--signal=B:USR1@60", *more]

        def submit(job: str, *options: str) -> int:
            words = [*flags, *options, f"{ROOT}/slurm/{job}.sbatch", "recipe.yaml"]
            return self.cluster.submit(*words, cwd=self.folder, **environment)

        array = submit("curate-array", "--array=0-2", "--cpus-per-task=1")
        return array, submit("curate", f"--dependency=afterany:{array}")

    def said(self) -> str:
        files = [*sorted(self.path.glob("logs/slurm/*.log")), *sorted(self.path.glob("logs/0*/*.log"))]
        files += [*self.folder.glob("*.log"), *self.path.glob("array/*/log")]
        return "\n".join(f"== {path}\n{path.read_text()[-2000:]}" for path in files)


def test_the_whole_pipeline_on_two_nodes_with_its_curation_requeued(idle, tmp_path):
    pipeline = Pipeline(idle, tmp_path)
    jobs = pipeline.submit("--option", "curate.nodes=2")
    assert len(jobs) == 3
    idle.wait(jobs[0], "RUNNING")
    idle.until(lambda: (pipeline.path / "state.json").exists(), "an attempt at curation")
    idle.run("scontrol", "requeue", str(jobs[0]))
    idle.wait(jobs[0], "PENDING", hurry=False)
    assert [idle.job(job)["Reason"] for job in jobs[1:]] == ["Dependency", "Dependency"]
    table = json.loads(pipeline.clipmill("status", "--json", str(pipeline.path)))
    assert [(job["stage"], job["state"]) for job in table[0]["jobs"]] == [
        ("curate", "waiting"), ("train", "waiting"), ("eval", "waiting")
    ]  # fmt: skip
    for job in jobs:
        assert idle.wait(job, limit_s=400)["JobState"] == "COMPLETED", pipeline.said()
    assert idle.job(jobs[0])["Restarts"] == "1"
    assert small_crawl.outcome(tmp_path / "data") == pipeline.wanted
    rows = metrics(pipeline.path / "train")
    assert [row["step"] for row in rows] == list(range(8))
    assert (pipeline.path / "eval/eval.json").exists()
    before = (pipeline.path / "attempts.jsonl").read_text().count('"start"')
    again = pipeline.submit()
    for job in again:
        assert idle.wait(job, limit_s=100)["JobState"] == "COMPLETED"
    assert (pipeline.path / "attempts.jsonl").read_text().count('"start"') == before, "nothing was to be done"


def test_shares_by_an_array_then_the_whole(idle, tmp_path):
    pipeline = Pipeline(idle, tmp_path)
    array, whole = pipeline.submit_shares()
    assert idle.wait(whole, limit_s=400)["JobState"] == "COMPLETED", pipeline.said()
    states = idle.run("squeue", "--noheader", "--states=all", f"--jobs={array}", "--array", "--format=%T").split()
    assert states == ["COMPLETED"] * 3, pipeline.said()
    assert small_crawl.outcome(tmp_path / "data") == pipeline.wanted
    assert sorted(path.name for path in (pipeline.path / "array").glob("*-of-*")) == [
        f"0000{n}-of-00003" for n in range(3)
    ]
    assert not list(tmp_path.glob("runs/whole/array/*/output"))


def test_elements_of_an_array_that_are_preempted_or_whose_node_is_lost_go_on(idle, tmp_path):
    pipeline = Pipeline(idle, tmp_path)
    array, whole = pipeline.submit_shares("--exclusive")
    held: dict[str, list[int]] = {}

    def all_held() -> bool:
        for node in idle.nodes:
            found = [] if node in held else idle.processes(node, "bin/clipmill\0curate")
            for pid in found:
                os.kill(pid, signal.SIGSTOP)
            held.update({node: found} if found else {})
        return len(held) == len(idle.nodes)

    idle.until(all_held, "a share on each node")
    idle.power_off("n3")
    other = idle.submit("--partition=high", "--nodes=2", "--exclusive", "--wrap", "srun sleep 1")
    idle.until(lambda: pipeline.said().count("USR1: SLURM is about") == 2, "word of the preemption")
    for pid in (*held["n1"], *held["n2"]):
        os.kill(pid, signal.SIGCONT)
    idle.wait(other, limit_s=120)
    idle.boot("n3")
    assert idle.wait(whole, limit_s=400)["JobState"] == "COMPLETED", pipeline.said()
    states = idle.run("squeue", "--noheader", "--states=all", f"--jobs={array}", "--array", "--format=%T").split()
    assert states == ["COMPLETED"] * 3, pipeline.said()
    assert [idle.job(f"{array}_{element}")["Restarts"] for element in range(3)] == ["1"] * 3
    assert small_crawl.outcome(tmp_path / "data") == pipeline.wanted
