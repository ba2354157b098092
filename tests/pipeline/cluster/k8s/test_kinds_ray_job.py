"""The command of the RayJob, through the job server of a real Ray cluster on this machine, as KubeRay sends it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.k8s.kinds import CANNOT_WORK
from pipeline.cluster.rundir import RunDir, create, read_state
from pipeline.contract.manifest import Manifest
from pipeline.recipe import load
from tests.helpers import small_crawl
from tests.helpers.kustomized import only, overlay
from tests.helpers.places import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("aiohttp_cors") is None, reason="Ray's job server needs the packages of ray[default]"),
]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def made(tmp_path: Path, name: str, **sections) -> RunDir:
    paths = small_crawl.write(tmp_path / "crawl", small_crawl.records(12))
    curate = small_crawl.recipe(paths, tmp_path / name / "curate", tmp_path / "entries.json", **sections)
    del curate["ray"]  # as a user's recipe: the cluster says where it is
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "seed": 3, "curate": curate}))
    return create(tmp_path / name, load(str(path)))


@pytest.mark.exhaustive
def test_curation_runs_on_the_cluster_and_its_exit_code_is_in_the_message(tmp_path):
    good, bad = made(tmp_path, "good"), made(tmp_path, "bad")
    for crawl in (tmp_path / "crawl").iterdir():
        shutil.copy(crawl, tmp_path / crawl.name)
    text = bad.recipe.read_text().replace(str(tmp_path / "crawl"), str(tmp_path / "nowhere"))
    bad.recipe.write_text(text)
    entrypoint = only(overlay("kueue"), "RayJob")["spec"]["entrypoint"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/clipmill").write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline.cli "$@"\n')
    (tmp_path / "bin/clipmill").chmod(0o755)
    gcs, dashboard = free_ports(2)
    folder = tempfile.mkdtemp(prefix="rj", dir="/tmp")  # Ray's sockets need a short path
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "RAY_health_check_timeout_ms": "120000",  # on a busy machine
        "CLIPMILL_TEST_RAY": folder, "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled", "CLIPMILL_RUN_DIR": "",
    }  # fmt: skip
    start = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=2", f"--port={gcs}",
        "--include-dashboard=true", f"--dashboard-port={dashboard}", f"--temp-dir={folder}",
        "--node-ip-address=127.0.0.1", "--object-store-memory=100000000",
    ]  # fmt: skip
    try:
        started = subprocess.run(start, env=environment, capture_output=True, text=True, cwd="/tmp")
        assert started.returncode == 0, started.stdout + started.stderr
        server = f"http://127.0.0.1:{dashboard}"
        status, message = _ran(server, entrypoint, good)
        assert status == "SUCCEEDED", message
        manifest = Manifest.load(str(good.path / "curate"))
        assert manifest.num_pairs > 0
        state = read_state(good)
        assert state is not None and (state.status, state.stage) == ("completed", "curate")
        status, message = _ran(server, entrypoint, bad)
        assert status == "FAILED" and CANNOT_WORK.search(message), message
        state = read_state(bad)
        assert state is not None and state.exit_code == 78
    finally:
        _end_all_of(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_all_of(folder: str) -> None:
    """Ray's daemons are nobody's children; each has the variable of this very test."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"CLIPMILL_TEST_RAY={folder}".encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:
            continue


def _ran(server: str, entrypoint: str, run: RunDir, limit_s: float = 300.0) -> tuple[str, str]:
    """Status and message of the job; the variable is the head pod's in a cluster, and the job's here."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(server)
    deadline = time.monotonic() + limit_s
    while True:
        try:
            variables = {"CLIPMILL_RUN_DIR": str(run.path)}
            job = client.submit_job(entrypoint=entrypoint, runtime_env={"env_vars": variables})
            break
        except (RuntimeError, OSError) as error:  # the head's agent starts after the server that answers
            assert time.monotonic() < deadline, error
            time.sleep(1.0)
    while not client.get_job_status(job).is_terminal():
        assert time.monotonic() < deadline, client.get_job_logs(job)
        time.sleep(0.3)
    info = client.get_job_info(job)
    return str(info.status.value), f"{info.message}\n{client.get_job_logs(job)}"
