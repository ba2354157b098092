"""Progress and words may be lost, the work never: closed pipes, full disks and closed files at both outputs."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import small_crawl
from tests.helpers.lanes import sampled

CLIPMILL = str(Path(sys.executable).with_name("clipmill"))
MAIN = "import sys; from pipeline.cli import main; sys.argv = ['clipmill', *sys.argv[1:]]; main()"


@pytest.fixture(scope="module")
def crawl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crawl")
    paths = small_crawl.write(folder, small_crawl.records(12))
    (folder / "r.yaml").write_text(
        f"curate:\n  sources: [{{kind: warc, paths: {paths}}}]\n  output: out\n  ray: {{address: inline}}\n"
    )
    return folder


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize(
    ("kind", "which"),
    sampled(itertools.product(["pipe", "full", "closed"], ["stdout", "stderr", "both"]), 0, 4, 8),
)
def test_work_ends_well_whatever_becomes_of_its_words(crawl, tmp_path, which, kind):
    handles = {"pipe": closed_pipe, "full": lambda: os.open("/dev/full", os.O_WRONLY), "closed": closed_pipe}
    numbers = {"stdout": (1,), "stderr": (2,), "both": (1, 2)}[which]
    streams = {1: subprocess.PIPE, 2: subprocess.PIPE} | {number: handles[kind]() for number in numbers}
    close = (lambda: [os.close(number) for number in numbers]) if kind == "closed" else None
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "curate", "r.yaml", f"curate.output={tmp_path}/out"],
        cwd=crawl, stdout=streams[1], stderr=streams[2], preexec_fn=close,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert (tmp_path / "out/manifest.json").exists()
    assert b"Traceback" not in (out or b"") + (err or b"") and b"ignored" not in (err or b"")


def test_the_exit_code_of_a_fault_stands_even_when_nobody_can_be_told(crawl):
    done = subprocess.run([CLIPMILL, "check", "r.yaml", "seed=x"], cwd=crawl, stderr=closed_pipe(), timeout=60)
    assert done.returncode == 2


def test_a_reader_that_leaves_early_ends_nothing(crawl):
    done = subprocess.run(f"{CLIPMILL} schema | head -1; echo ${{PIPESTATUS[0]}}", cwd=crawl, shell=True,
                          executable="/bin/bash", capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.stdout.splitlines() == ["{", "0"] and done.stderr == ""
