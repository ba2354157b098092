"""What is handed to SLURM and read from it, without one."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.cluster.rundir import STAGES, RunDir
from pipeline.cluster.schedulers import Request
from pipeline.cluster.schedulers.slurm import Slurm
from pipeline.errors import ClipmillError, UsageError
from tests.helpers.places import ROOT

ALL = ("curate", "train", "eval")


def run_dir(folder: Path) -> RunDir:
    run = RunDir(folder / "my run")
    run.jobs("slurm").mkdir(parents=True, exist_ok=True)
    return run


def tool(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command of SLURM's that does as it is told; the file of what it was called with."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/bash\necho "{name} $*" >>{folder}/called\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    return folder / "called"


def written(run: RunDir, request: Request) -> RunDir:
    for name, text in Slurm().render(run, request).items():
        (run.jobs("slurm") / name).write_text(text)
    return run


def test_the_same_request_gives_the_same_bytes(tmp_path):
    request = Request(STAGES, 4, 8, {"partition": "gpu", "train.time": "48:00:00", "spares": "1"})
    run = run_dir(tmp_path)
    first = Slurm().render(run, request)
    turned = Request(STAGES, 4, 8, {"partition": "gpu", "train.time": "48:00:00", "spares": "1"})
    assert first == Slurm().render(run, turned)
    files = {
        "submit.sh",
        "lib.sh",
        "env.sh",
        "preflight.sh",
        "all_reduce.py",
        "curate.sbatch",
        "train.sbatch",
        "eval.sbatch",
        "reinforce.sbatch",
    }
    assert set(first) == files
    for name in files - {"submit.sh", "env.sh"}:
        assert first[name] == (ROOT / "slurm" / name).read_text()


def test_stages_are_chained_and_submitted_by_flags_alone(tmp_path, monkeypatch):
    options = {"partition": "gpu", "curate.partition": "cpu", "train.time": "48:00:00", "spares": "2"}
    run = written(run_dir(tmp_path), Request(ALL, 4, 8, options))
    called = tool(tmp_path, "sbatch", 'n=$(wc -l <"$(dirname "$0")/../called"); echo "$((n + 100));site"', monkeypatch)
    jobs = Slurm().submit(run, Request(ALL, 4, 8, options))
    assert [(job.stage, job.id, job.state) for job in jobs] == [
        ("curate", "104", "waiting"), ("train", "105", "waiting"), ("eval", "106", "waiting")
    ]  # fmt: skip
    lines = called.read_text().splitlines()
    tested, queued = lines[:3], lines[3:]
    assert all("--test-only" in line and "afterok" not in line for line in tested)
    assert not any("--test-only" in line for line in queued)
    assert "--dependency=singleton" in queued[0]
    assert "--dependency=afterok:104,singleton" in queued[1] and "--dependency=afterok:105,singleton" in queued[2]
    names = {word for line in queued for word in line.split() if word.startswith("--job-name")}
    assert len(names) == 1
    assert all("--kill-on-invalid-dep=yes" in line for line in queued)
    assert "--partition=cpu" in queued[0] and "--gpus-per-node" not in queued[0] and "--nodes" not in queued[0]
    assert "--nodes=6" in queued[1] and "--gpus-per-node=8" in queued[1] and "--time=48:00:00" in queued[1]
    assert "--partition=gpu" in queued[2] and "--time" not in queued[2]
    assert f"{run.path}/slurm/train.sbatch {run.path}" in queued[1]
    environment = (run.jobs("slurm") / "env.sh").read_text()
    spares = 'CLIPMILL_SLURM_DIR=. STAGE={} && source {} && echo "$CLIPMILL_SPARES"'
    for stage, expected in (("train", "2"), ("eval", "0")):
        (tmp_path / "env.sh").write_text(environment)
        asked = ["bash", "-c", spares.format(stage, tmp_path / "env.sh")]
        assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == expected


def test_teachers_stand_between_curation_and_training(tmp_path, monkeypatch):
    stages = ("curate", "reinforce", "train")
    run = written(run_dir(tmp_path), Request(stages, 4, 8))
    called = tool(tmp_path, "sbatch", 'n=$(wc -l <"$(dirname "$0")/../called"); echo "$((n + 100))"', monkeypatch)
    assert [job.stage for job in Slurm().submit(run, Request(stages, 4, 8))] == list(stages)
    teachers, training = called.read_text().splitlines()[4:]
    assert "--dependency=afterok:104,singleton" in teachers and "--dependency=afterok:105,singleton" in training
    assert "--nodes" not in teachers and "--gpus-per-node=8" in teachers and "slurm/reinforce.sbatch" in teachers


def test_nodes_found_unfit_within_a_day_are_left_out(tmp_path, monkeypatch):
    run = written(run_dir(tmp_path), Request(("train",)))
    now = subprocess.run(["date", "-u", "+%FT%TZ"], capture_output=True, text=True, check=True).stdout.strip()
    lines = ["2020-01-01T00:00:00Z 3 n9 clock", f"{now} 7 n2 /dev/shm: 1 MB", f"{now} 8 n2 again", f"{now} 8 n5 GPUs"]
    (run.path / "unfit_nodes").write_text("\n".join(lines) + "\n")
    called = tool(tmp_path, "sbatch", "echo 7", monkeypatch)
    Slurm().submit(run, Request(("train",)))
    assert all("--exclude=n2,n5 " in line for line in called.read_text().splitlines())


def test_either_all_jobs_are_queued_or_none(tmp_path, monkeypatch):
    run = written(run_dir(tmp_path), Request(ALL))
    refuse = 'case "$*" in *--test-only*) ;; *eval.sbatch*) echo "QOSMaxSubmit" >&2; exit 1 ;; *) echo 41 ;; esac'
    tool(tmp_path, "sbatch", refuse, monkeypatch)
    called = tool(tmp_path, "scancel", "", monkeypatch)
    with pytest.raises(ClipmillError, match="QOSMaxSubmit"):
        Slurm().submit(run, Request(ALL))
    assert called.read_text().splitlines()[-1] == "scancel 41 41"


def test_what_slurm_would_refuse_is_refused_before_anything_is_queued(tmp_path, monkeypatch):
    run = written(run_dir(tmp_path), Request(ALL))
    called = tool(tmp_path, "sbatch", "echo 'invalid partition specified: gpu' >&2; exit 1", monkeypatch)
    with pytest.raises(ClipmillError, match="invalid partition"):
        Slurm().submit(run, Request(ALL))
    assert len(called.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "options, words",
    [
        ({"partitoin": "gpu"}, "partitoin"),
        ({"finetune.time": "1"}, "finetune.time"),
        ({"job-name": "x"}, "job-name"),
        ({"spares": "few"}, "few"),
        ({"partition": '$(rm -rf "~")'}, "rm -rf"),
    ],
)
def test_options_that_it_does_not_know_are_refused(tmp_path, options, words):
    with pytest.raises(UsageError) as error:
        Slurm().render(run_dir(tmp_path), Request(ALL, options=options))
    assert words in str(error.value)


def test_without_slurm_it_says_where_to_type_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="login node"):
        Slurm().submit(run_dir(tmp_path), Request(ALL))
    (job,) = Slurm().jobs(run_dir(tmp_path), ["12"])
    assert (job.id, job.state) == ("12", "gone") and "squeue" in job.reason


def test_jobs_are_told_in_its_own_words(tmp_path, monkeypatch):
    answer = (
        "12|RUNNING|None|2026-01-01T00:00:00|n[1-2]|/r/slurm/train.sbatch /r\n"
        "13|PENDING|Dependency|N/A||/r/slurm/eval.sbatch /r\n"
        "14|PENDING|Priority|2026-01-02T03:04:05||/r/slurm/eval.sbatch /r\n"
        "15|COMPLETED|None|2026-01-01T00:00:00|n1|/r/slurm/curate.sbatch /r\n"
        "16|CANCELLED|DependencyNeverSatisfied|N/A||/r/slurm/eval.sbatch /r\n"
        "17|COMPLETING|NodeFail|N/A|n3|/r/slurm/eval.sbatch /r\n"
    )
    tool(tmp_path, "squeue", f"cat <<'END'\n{answer}END", monkeypatch)
    found = Slurm().jobs(run_dir(tmp_path), ["12", "13", "14", "15", "16", "17", "18"])
    assert [(job.id, job.stage, job.state, job.reason) for job in found] == [
        ("12", "train", "running", "on n[1-2]"),
        ("13", "eval", "waiting", "Dependency"),
        ("14", "eval", "waiting", "Priority, expected to start 2026-01-02T03:04:05"),
        ("15", "curate", "done", ""),
        ("16", "eval", "failed", "cancelled (DependencyNeverSatisfied)"),
        ("17", "eval", "running", "completing"),
        ("18", "", "gone", ""),
    ]


def test_a_cancelled_run_may_save(tmp_path, monkeypatch):
    called = tool(tmp_path, "scancel", "", monkeypatch)
    Slurm().cancel(run_dir(tmp_path), ["12", "13"])
    assert called.read_text().splitlines() == [
        "scancel --state=PENDING 12 13",
        "scancel --state=RUNNING --batch --signal=TERM 12 13",
    ]


def test_what_the_shells_of_the_jobs_and_the_tasks_said(tmp_path):
    run = run_dir(tmp_path)
    assert Slurm().said(run, ["7"]) == []
    (run.logs / "slurm").mkdir(parents=True)
    (run.logs / "slurm/train-7.log").write_text("job 7: requeued\n")
    (run.logs / "slurm/7.0.0-n1.log").write_text("".join(f"{number}\n" for number in range(3000)))
    said = Slurm().said(run, ["7"])
    assert [each.text for each in said] == [*map(str, range(1000, 3000)), "job 7: requeued"]
    assert len({(each.source, each.stamp) for each in said}) == 2001
