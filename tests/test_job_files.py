"""Job files hold no logic: each ends in one line that the real command line accepts."""

import re
import shlex
import subprocess

import pytest
from typer.main import get_command

from pipeline.cli import app
from tests.helpers.places import ROOT

SBATCH = sorted(ROOT.glob("slurm/*.sbatch"))


def parse(words: list[str]) -> str:
    """The name of the command that the real parser finds in `clipmill WORDS`, without running it."""
    group = get_command(app)
    context = group.make_context("clipmill", list(words), resilient_parsing=False)
    name, command, rest = group.resolve_command(context, context._protected_args + context.args)
    command.make_context(name, rest, parent=context)
    return name


def test_there_is_a_job_file_for_each_stage():
    assert {p.stem for p in SBATCH} == {"curate", "train", "eval"}


@pytest.mark.parametrize("path", SBATCH, ids=lambda p: p.stem)
def test_a_batch_file_is_valid_shell_and_ends_in_one_clipmill_line(path):
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    last = text.strip().splitlines()[-1]
    words = shlex.split(last)
    assert text.count("clipmill " + path.stem) == 1
    assert parse([w for w in words[words.index("clipmill") + 1 :]]) == path.stem
    assert not re.search(r"^\s*(if|for|while|case)\b", text, re.M), "no logic in job files"
