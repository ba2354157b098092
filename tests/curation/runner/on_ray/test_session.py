"""A Ray of our own: it asks nobody on the network, and killed from outside it leaves nothing and the run goes on."""

import ipaddress
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.helpers import small_crawl
from tests.helpers.places import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/exe").exists(), reason="looks into /proc")]
NETWORK = re.compile(r'(connect|sendto|bind)\(.*(?:inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)")')


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="o", dir="/tmp") as short:  # a path of a socket has 107 bytes
        yield Path(short)


def prepared(folder: Path) -> Path:
    paths = small_crawl.write(folder / "in", small_crawl.records(24))
    ray = {"address": "local", "num_cpus": 1, "temp_dir": str(folder)}
    plain = small_crawl.recipe(paths, folder / "out", folder / "e.json", ray=ray)
    (folder / "settings.json").write_text(json.dumps(plain))
    return folder / "settings.json"


def command(settings: Path) -> list[str]:
    return [sys.executable, "-m", "tests.helpers.curate_child", str(settings)]


def processes_with(text: str) -> list[int]:
    """Processes that name `text` in their command line, or have a file open whose path holds it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes().decode(errors="replace")
            files = [os.readlink(file) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if int(process.name) != os.getpid() and any(text in part for part in (said, *files)):
            found.append(int(process.name))
    return found


def server(folder: Path, name: str) -> int | None:
    for pid in processes_with(str(folder / "clipmill-ray-")):
        try:
            if Path(os.readlink(f"/proc/{pid}/exe")).name == name:
                return pid
        except OSError:
            continue
    return None


@pytest.mark.exhaustive
def test_killing_its_servers_stops_the_run_in_one_line_and_the_same_command_goes_on(home):
    settings = prepared(home)
    for name in ("raylet", "gcs_server"):
        shutil.rmtree(home / "out", ignore_errors=True)
        child = subprocess.Popen(command(settings), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        end = time.monotonic() + 60
        while not any((home / "out" / "_pool").glob("parts/*")) and child.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(server(home, name), signal.SIGKILL)
        out, error = child.communicate(timeout=40)
        assert child.returncode == 75, (name, out, error)
        assert re.fullmatch(
            rf"curate: the local Ray is gone: its {name} was killed by SIGKILL; what is done is kept\n"
            r"hint: run the same command to go on; .*\n", out
        ), out  # fmt: skip
        assert processes_with(str(home / "clipmill-ray-")) == [] and list(home.glob("clipmill-ray-*")) == []
    done = subprocess.run(command(settings), cwd=ROOT, text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stdout
    assert processes_with(str(home / "clipmill-ray-")) == [] and list(home.glob("clipmill-ray-*")) == []


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_curation_of_local_files_talks_to_this_machine_alone(home):
    trace = home / "trace"
    strace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,bind", "-o", str(trace)]
    done = subprocess.run([*strace, *command(prepared(home))], cwd=ROOT, capture_output=True, timeout=200)
    if done.returncode and "ptrace" in done.stderr.decode():
        pytest.skip("strace may not trace here")
    assert done.returncode == 0
    seen = [match for match in map(NETWORK.search, trace.read_text().splitlines()) if match]
    assert len(seen) > 10
    for match in seen:
        address = ipaddress.ip_address(match[2] or match[3])
        mapped = getattr(address, "ipv4_mapped", None) or address
        assert mapped.is_loopback or (match[1] == "bind" and mapped.is_unspecified), match.string
