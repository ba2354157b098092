"""Whatever stops a run, the same command goes on, and the result is the one of a run that was never stopped."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import small_crawl
from tests.helpers.forks import Forks
from tests.helpers.lanes import KILLS, sampled
from tests.helpers.places import ROOT


def prepare(folder: Path, **more) -> Path:
    paths = small_crawl.write(folder / "in", small_crawl.records(), files=3)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json", **more)
    (folder / "settings.json").write_text(json.dumps(plain))
    return folder / "settings.json"


def start(*args: object, limit_bytes: int | None = None) -> subprocess.Popen:
    def before() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, "-m", "tests.helpers.curate_child", *map(str, args)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, text=True, preexec_fn=before, **pipes)


def finish(settings: Path, limit_bytes: int | None = None) -> tuple[int, str]:
    child = start(settings, limit_bytes=limit_bytes)
    out, _ = child.communicate(timeout=200)
    return child.returncode, out


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    code, said = finish(prepare(folder))
    assert code == 0
    return said, small_crawl.outcome(folder / "out")


def check_same(reference, folder: Path, said: str) -> None:
    assert said == reference[0]
    assert small_crawl.outcome(folder / "out") == reference[1]
    names = {path.name for path in (folder / "out").iterdir()} - {
        ".lock",
        "_clipmill.json",
        "_pool",
        "_work",
        "index",
        "verdicts",
    }
    books = {"manifest.json", "summary.json", "subset.npy", "entry_counts.json"}
    assert names == {*books, *(n for n in reference[1] if n.endswith(".tar"))}
    assert not list((folder / "out").rglob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "address"), sampled([(3, "inline"), (KILLS, "inline"), (KILLS, "processes")], 0, timeout_s=1500)
)
def test_kill_9_of_the_driver_at_random_moments(reference, tmp_path, kills, address):
    server, rng, ray = Forks(), random.Random(time.time()), {"address": address, "num_cpus": 2}
    began = time.monotonic()
    assert server.live(prepare(tmp_path / "trial", ray=ray), None) == 0
    whole_s = time.monotonic() - began
    killed = trials = 0
    while killed < kills:
        folder = tmp_path / str(trials)
        settings, trials = prepare(folder, ray=ray), trials + 1
        plain = json.loads(settings.read_text())
        # First on the way to another dataset at the same place, which the later runs have to replace.
        for pairs_per_shard in (5, 5, 5, 8, 8, 8, 8, 8, 8):
            settings.write_text(json.dumps({**plain, "emit": {"pairs_per_shard": pairs_per_shard}}))
            if killed < kills:
                killed += server.live(settings, rng.uniform(0, whole_s / 2)) == -signal.SIGKILL
        assert server.live(settings, None) == 0
        check_same(reference, folder, reference[0])
        assert trials < kills, f"only {killed} of {9 * trials} runs were killed in time"
    server.close()


def test_a_full_disk_is_named_and_the_same_command_goes_on(reference, tmp_path):
    settings = prepare(tmp_path)
    code, said = finish(settings, limit_bytes=30_000)  # EFBIG stands in for ENOSPC: storage treats both as full
    assert code == 1 and "no space left" in said and "run the same command again" in said and "images.tar" in said
    code, said = finish(settings)
    assert code == 0
    check_same(reference, tmp_path, said)


@pytest.mark.slow
@pytest.mark.parametrize("address", sampled(["inline", "processes", "local"], 1))
def test_kill_9_then_sigterm_with_a_second_run_beside_it_then_done(reference, tmp_path, address):
    settings = prepare(tmp_path, ray={"address": address, "num_cpus": 2})
    pool = tmp_path / "out" / "_pool" / "parts"

    child = start(settings)
    wait_for(lambda: pool.exists() and any(pool.iterdir()))
    child.kill()
    child.wait()

    child = start(settings)
    wait_for(lambda: json.loads((tmp_path / "out" / ".lock").read_text() or "{}").get("pid") == child.pid)
    child.send_signal(signal.SIGSTOP)  # it must not end before the second run has looked
    code, said = finish(settings)
    assert code == 1 and f"process {child.pid}" in said and "host " in said
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGCONT)
    out, _ = child.communicate(timeout=100)
    assert child.returncode == 75 and "stopped by SIGTERM" in out and "run the same command to go on" in out

    code, said = finish(settings)
    assert code == 0
    check_same(reference, tmp_path, said)


def wait_for(condition: Callable[[], bool], timeout_s: float = 100.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
