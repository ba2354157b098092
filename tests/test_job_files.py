"""Job files hold no logic: each ends in one line that the real command line accepts."""

import re
import shlex
import subprocess

import pytest
import yaml
from typer.main import get_command

from pipeline.cli import app
from tests.helpers.places import ROOT

SBATCH = sorted(ROOT.glob("slurm/*.sbatch"))
MANIFESTS = sorted(ROOT.glob("k8s/*.yaml"))


def parse(words: list[str]) -> str:
    """The name of the command that the real parser finds in `clipmill WORDS`, without running it."""
    group = get_command(app)
    context = group.make_context("clipmill", list(words), resilient_parsing=False)
    name, command, rest = group.resolve_command(context, context._protected_args + context.args)
    command.make_context(name, rest, parent=context)
    return name


def test_there_are_job_files_for_both_schedulers():
    assert {p.stem for p in SBATCH} == {"curate", "train", "eval"}
    assert {p.stem for p in MANIFESTS} == {"curate-job", "train-job"}


@pytest.mark.parametrize("path", SBATCH, ids=lambda p: p.stem)
def test_a_batch_file_is_valid_shell_and_ends_in_one_clipmill_line(path):
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    last = text.strip().splitlines()[-1]
    words = shlex.split(last)
    assert text.count("clipmill " + path.stem) == 1
    assert parse([w for w in words[words.index("clipmill") + 1 :]]) == path.stem
    assert not re.search(r"^\s*(if|for|while|case)\b", text, re.M), "no logic in job files"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda p: p.stem)
def test_a_manifest_runs_one_clipmill_command_safely(path):
    job = [doc for doc in yaml.safe_load_all(path.read_text()) if doc["kind"] == "Job"][0]
    pod = job["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert parse(command[command.index("clipmill") + 1 :]) == path.stem.split("-")[0]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    assert {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]} in job["spec"]["podFailurePolicy"][
        "rules"
    ]
