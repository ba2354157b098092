"""Job files: what a person submits by hand is well formed, and calls what is there."""

import re
import shutil
import subprocess

import pytest
from typer.main import get_command

from pipeline.cli import app
from tests.helpers.places import ROOT

SBATCH = sorted(ROOT.glob("slurm/*.sbatch"))
SHELL = [*SBATCH, *sorted(ROOT.glob("slurm/*.sh"))]


def parse(words: list[str]) -> str:
    """The name of the command that the real parser finds in `clipmill WORDS`, without running it."""
    group = get_command(app)
    context = group.make_context("clipmill", list(words), resilient_parsing=False)
    name, command, rest = group.resolve_command(context, context._protected_args + context.args)
    command.make_context(name, rest, parent=context)
    return name


def test_there_is_a_job_file_for_each_stage():
    assert {p.stem for p in SBATCH} == {"curate", "curate-array", "reinforce", "train", "eval"}


@pytest.mark.parametrize("path", SBATCH, ids=lambda p: p.stem)
def test_a_batch_file_holds_flags_and_one_call(path):
    """All logic is in lib.sh, which all of them share."""
    lines = [line for line in path.read_text().splitlines() if line and not re.match("# |#!", line)]
    flags, words = lines[:-(4)], lines[-4:]
    assert all(line.startswith("#SBATCH --") for line in flags)
    assert {"#SBATCH --requeue", "#SBATCH --open-mode=append", "#SBATCH --signal=B:USR1@300"} <= set(flags)
    assert words[0] == "set -uo pipefail" and words[2].startswith('source "$CLIPMILL_SLURM_DIR/lib.sh" || exit 78')
    stage = {"curate-array": 'run_share "$@"'}.get(path.stem, f'run_stage {path.stem} "$@"')
    assert words[3] == stage


@pytest.mark.parametrize("path", SHELL, ids=lambda p: p.name)
def test_shell_is_well_formed(path):
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("bash finds no fault; no shellcheck here: apt-get install shellcheck")
    found = subprocess.run(["shellcheck", "-x", path], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_commands_that_the_shell_calls_are_there():
    text = (ROOT / "slurm/lib.sh").read_text()
    assert 'clipmill submit "$@" --on slurm --dry-run' in text and 'exec clipmill node "$@"' in text
    assert parse(["submit", "demo", "--on", "slurm", "--dry-run"]) == "submit"
    assert parse(["node", "runs/demo", "train"]) == "node" and parse(["curate", "demo", "curate.x=1"]) == "curate"
