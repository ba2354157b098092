"""Every command in the README works as typed: the `sh` blocks are run, in order, in a folder of their own.

Only the model and the batch of the training commands are made smaller, for the sake of time.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.lanes import sampled
from tests.helpers.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
SMALLER = [
    "train.batch.global=32",
    "train.batch.chunk=16",
    "train.model.config.vision_cfg.layers=1",
    "train.model.config.text_cfg.layers=1",
    "train.eval.every_steps=null",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkout's examples and, as after the first part of `make demo`, its curated data."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "examples").symlink_to(ROOT / "examples")
    run(folder, "clipmill curate demo")
    return folder


def run(folder: Path, command: str) -> str:
    words = shlex.split(command)
    assert words[0] == "clipmill"
    if words[1] in ("run", "train", "eval", "data") and {"demo", "dfn-filter"} & set(words):
        words += SMALLER
    clipmill = Path(sys.executable).with_name("clipmill")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(clipmill), *words[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_readme_has_commands_for_each_job():
    for word in ("curate", "train", "eval", "export", "data show", "data verify", "check", "schema", "recipes"):
        assert any(command.startswith(f"clipmill {word}") for command in COMMANDS), word


TRAINS = re.compile("train|dfn")
"""What trains, and what looks at what was trained: minutes, and each needs the one before."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", sampled(COMMANDS, *(n for n, each in enumerate(COMMANDS) if not TRAINS.search(each)))
)
def test_a_readme_command_works_as_typed(folder, command):
    run(folder, command)


def test_every_link_in_the_readme_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_knows_the_two_commands():
    for target in ("demo", "test"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
