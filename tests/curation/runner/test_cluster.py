"""Tasks on a real local Ray: results, errors, deaths and bounds; and what is said when there is no Ray."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from curation.runner import cluster as module
from curation.runner.calls import Call, Pool
from curation.runner.cluster import LARGE_BYTES, SMALL_BYTES, cluster
from curation.runner.on_machine.inline import Inline
from curation.runner.on_machine.processes import OnProcesses
from curation.settings import RaySettings
from pipeline.errors import ClipmillError, Stopped
from pipeline.signals import StopSignals
from tests.helpers.wrong_tasks import errors_arrive_as_they_left


def double(job, number):
    return job["factor"] * number


def die(job, note):
    with open(note, "a") as file:
        file.write("x")
    os._exit(1)


def test_a_local_ray_runs_tasks_and_tells_errors_apart(tmp_path):
    with StopSignals() as signals, cluster(RaySettings(address="local", num_cpus=2), signals) as place:
        place.give({"factor": 2})
        done = {call.args[0]: result for call, result in place.run([Call(double, (n,), "d") for n in range(20)])}
        assert done == {n: 2 * n for n in range(20)}

        errors_arrive_as_they_left(place)

        note = tmp_path / "note"
        with pytest.raises(ClipmillError, match="bucket 7: its process died(.|\n)*more `curate.buckets`"):
            list(place.run([Call(die, (str(note),), "bucket 7")]))
        assert note.read_text() == "xxxx"  # a death may be bad luck: it was tried again

        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            for _ in place.run([Call(double, (n,), "d") for n in range(10**9 // 10**5)]):
                time.sleep(0.01)
    assert not list(Path("/tmp").glob(f"clipmill-ray-{os.getpid()}-*"))


def test_a_folder_that_cannot_be_used_is_an_error_with_a_hint(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipmillError, match="curate.ray(.|\n)*hint: "):
        with cluster(RaySettings(address="local", temp_dir=str(tmp_path / "file")), StopSignals()):
            pass


def test_an_address_where_nobody_listens_is_an_error_at_once():
    with pytest.raises(ClipmillError, match=r"curate.ray.address: no Ray at 127.0.0.1:9: (.|\n)*hint: check"):
        with cluster(RaySettings(address="127.0.0.1:9"), StopSignals()):
            pass


class Started(Exception):
    """Ray would be started."""


MEDIUM = [SMALL_BYTES, 1]


@pytest.mark.parametrize(
    ("settings", "environment", "sizes", "asks", "found"),
    [
        ({}, None, [SMALL_BYTES], {}, Inline),
        ({}, None, MEDIUM, {}, OnProcesses),
        ({}, None, [LARGE_BYTES], {}, OnProcesses),
        ({}, None, [LARGE_BYTES, 1], {}, None),
        ({}, None, None, {}, None),
        ({"num_cpus": 8}, None, [0], {}, Inline),
        ({"num_cpus": 1}, None, MEDIUM, {}, Inline),
        ({}, None, [1], {"downloads": True}, OnProcesses),
        ({}, None, [1], {"needs_ray": True}, Inline),
        ({}, None, MEDIUM, {"needs_ray": True}, None),
        ({"runtime_env": {"env_vars": {"A": "1"}}}, None, [1], {}, None),
        ({"address": "local"}, None, [0], {}, None),
        ({"address": "inline"}, None, [1 << 40], {}, Inline),
        ({"address": "inline"}, "10.0.0.1:6379", [1 << 40], {}, Inline),
        ({"address": "processes"}, "10.0.0.1:6379", [1], {"needs_ray": True}, OnProcesses),
        ({}, "10.0.0.1:6379", [0], {}, None),
        ({}, "local", [0], {}, None),
        ({}, "a notebook's", [SMALL_BYTES], {}, Inline),
        ({}, "a notebook's", MEDIUM, {}, None),
    ],
)
def test_what_is_asked_for_decides_and_else_how_much_there_is(monkeypatch, settings, environment, sizes, asks, found):
    def started(address):
        raise Started

    monkeypatch.setattr(module, "imported_ray", started)
    monkeypatch.setattr(module, "usable_cpus", lambda: 2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "is_joined", lambda: environment == "a notebook's")
    if environment and not module.is_joined():
        monkeypatch.setenv("RAY_ADDRESS", environment)
    with nullcontext() if found else pytest.raises(Started):
        with cluster(RaySettings(**settings), StopSignals(), sizes, **asks) as place:
            assert type(place) is found


def variable(job, name):
    return os.environ.get(name)


@pytest.mark.exhaustive
def test_what_a_recipe_gives_ray_for_its_processes_reaches_them():
    settings = RaySettings(address="local", num_cpus=1, runtime_env={"env_vars": {"CLIPMILL_TEST": "brought"}})
    with StopSignals() as signals, cluster(settings, signals) as place:
        place.give(None)
        calls = [Call(variable, ("CLIPMILL_TEST",), "v", 0.5, pool=pool) for pool in (None, Pool("p"))]
        assert [result for _, result in place.run(calls)] == ["brought", "brought"]
