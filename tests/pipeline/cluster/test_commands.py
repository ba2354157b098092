"""submit, status, logs, stop, save, cancel, doctor as a user types them, with a scheduler that only notes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.cluster.rundir import RunDir, attempts, write_state
from pipeline.cluster.schedulers import SCHEDULERS, Job, Said
from pipeline.errors import ClipmillError
from tests.helpers.tiny_run import write_recipe


class Noting:
    """Takes everything and does nothing."""

    name = "noting"

    def __init__(self):
        self.given, self.cancelled = [], []

    def render(self, run, request):
        return {"job.txt": f"{request.stages} on {request.nodes} {dict(request.options)}\n"}

    def submit(self, run, request):
        self.given.append((run.path, request))
        return [Job("7", "train", "waiting")]

    def jobs(self, run, ids):
        return [Job(each, "train", "waiting", "Priority") for each in ids]

    def cancel(self, run, ids):
        self.cancelled.append(ids)

    def said(self, run, ids, within_s=None):
        return [Said("noting", "1", "what only the scheduler knows")]


@pytest.fixture
def noting(monkeypatch):
    monkeypatch.setitem(SCHEDULERS, "noting", Noting())
    return SCHEDULERS["noting"]


def typed(*words) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def submitted(tmp_path, *words) -> tuple[RunDir, str]:
    recipe = write_recipe(tmp_path, output=None)
    said = typed("submit", recipe, *words, "--on", "noting", "--run-dir", tmp_path / "run")
    return RunDir(tmp_path / "run"), said


def test_a_run_is_made_handed_over_and_noted(tmp_path, noting):
    run, said = submitted(tmp_path, "train.steps=5", "--nodes", "3", "--option", "partition=gpu")
    path, request = noting.given[0]
    assert path == run.path and (request.stages, request.nodes) == (("train",), 3)
    assert request.options == {"partition": "gpu"}
    assert f"clipmill status {run.path}" in said and "steps: 5" in run.recipe.read_text()
    event = attempts.events(run)[0]
    assert (event["event"], event["on"], event["jobs"], event["stages"]) == ("submitted", "noting", ["7"], ["train"])


def test_a_dry_run_writes_the_files_and_hands_nothing_over(tmp_path, noting):
    run, said = submitted(tmp_path, "--dry-run")
    file = run.path / "noting/job.txt"
    assert said.strip() == str(file) and file.read_text() == "('train',) on 1 {}\n"
    assert not noting.given and attempts.events(run) == []


def test_a_bad_recipe_is_refused_before_anything_is_made(tmp_path, noting):
    with pytest.raises(ClipmillError, match="train.stepps"):
        submitted(tmp_path, "train.stepps=5")
    assert not (tmp_path / "run").exists() and not noting.given


@pytest.mark.parametrize(("words", "said"), [
    (("--on", "pbs"), "one of local"), (("--option", "partition"), "KEY=VALUE"),
])  # fmt: skip
def test_a_wrong_word_is_told(tmp_path, noting, words, said):
    recipe = write_recipe(tmp_path)
    with pytest.raises(ClipmillError, match=said):
        typed("submit", recipe, "--run-dir", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


def test_status_says_why_it_waits(tmp_path, noting):
    run, _ = submitted(tmp_path)
    found = json.loads(typed("status", run.path, "--json"))
    assert found[0]["state"] == "waiting" and found[0]["jobs"][0]["reason"] == "Priority"
    heads, row = [line.split("\t") for line in typed("status", run.path).splitlines()]
    assert dict(zip(heads, row, strict=True))["state"] == "waiting"
    write_state(run, 1, stage="train", status="stopped", owner="a", message="by signal 15")
    assert dict(zip(heads, typed("status", run.path).splitlines()[1].split("\t"), strict=True))["state"] == "waiting"


def test_stop_save_and_cancel_leave_their_words(tmp_path, noting):
    run, _ = submitted(tmp_path)
    typed("stop", run.path)
    typed("save", run.path)
    assert sorted(path.name for path in run.control.iterdir()) == ["save", "stop"]
    typed("cancel", run.path)
    assert (run.control / "cancel").exists() and noting.cancelled == [["7"]]
    with pytest.raises(ClipmillError, match="was cancelled"):
        submitted(tmp_path)
    submitted(tmp_path, "--uncancel")
    assert not list(run.control.iterdir())


def test_logs_end_with_what_only_the_scheduler_has(tmp_path, noting):
    run, _ = submitted(tmp_path)
    run.attempt_logs(1).mkdir()
    run.log(1, 0).write_text("of the stage\n")
    assert typed("logs", run.path).splitlines()[1::2] == ["of the stage", "what only the scheduler knows"]


@pytest.mark.parametrize("command", ["status", "logs", "stop", "save", "cancel"])
def test_a_folder_that_is_no_run_is_told(tmp_path, command):
    with pytest.raises(ClipmillError, match="is no run directory"):
        typed(command, tmp_path)


def test_every_command_of_the_readme_is_there():
    words = Path("pipeline/cluster/README.md").read_text()
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    for name in ("submit", "status", "logs", "stop", "cancel", "save", "doctor", "node"):
        assert name in known and f"clipmill {name}" in words, name
