"""While a Ray of our own starts, its driver works; then Ray does, and at the end nothing of it is left."""

import os
import signal
import threading
from pathlib import Path

import pytest

from curation.runner.calls import Call, Pool
from curation.runner.cluster import SMALL_BYTES, cluster
from curation.runner.on_ray import starting
from curation.runner.on_ray.place import OnRay
from curation.runner.on_ray.starting import Starting
from curation.settings import RaySettings
from pipeline.errors import ClipmillError, Stopped
from pipeline.signals import StopSignals
from tests.helpers.lanes import sampled

LOCAL = RaySettings(address="local", num_cpus=1)


def pid(job, number):
    return number, job, os.getpid()


def calls(*numbers: int, pool: Pool | None = None) -> list[Call]:
    return [Call(pid, (number,), f"call {number}", pool=pool) for number in numbers]


@pytest.fixture
def gate(monkeypatch):
    """Ray starts when it is set."""
    opened, real = threading.Event(), starting.own_ray

    def late(ray, settings):
        opened.wait(60)
        return real(ray, settings)

    monkeypatch.setattr(starting, "own_ray", late)
    yield opened
    opened.set()


def test_calls_run_here_until_ray_is_there_and_then_there(gate):
    looks = []
    with StopSignals() as signals, cluster(LOCAL, signals, [SMALL_BYTES, 5]) as place:
        assert isinstance(place, Starting)
        place.give("first")
        place.ready(looks.append)
        running = place.run(calls(1, 2, 3))
        assert [next(running)[1] for _ in range(2)] == [(1, "first", os.getpid()), (2, "first", os.getpid())]
        assert looks == []
        gate.set()
        place._there.wait(60)
        [(_, (number, job, process))] = running
        assert (number, job) == (3, "first") and process != os.getpid()
        assert [type(each) for each in looks] == [OnRay]
        place.give("second")
        assert [result[:2] for _, result in place.run(calls(4))] == [(4, "second")] and len(looks) == 1
    assert not list(Path("/tmp").glob(f"clipmill-ray-{os.getpid()}-*"))


@pytest.mark.exhaustive
def test_what_a_pool_is_for_waits_for_ray(gate):
    with StopSignals() as signals, cluster(LOCAL, signals, [SMALL_BYTES, 5]) as place:
        place.give(None)
        threading.Timer(0.3, gate.set).start()
        [(_, (_, _, process))] = place.run(calls(1, pool=Pool("model")))
        assert process != os.getpid()


@pytest.mark.exhaustive
def test_a_stop_while_it_starts_is_heard_before_the_next_call(gate):
    with StopSignals() as signals, cluster(LOCAL, signals, [SMALL_BYTES, 5]) as place:
        place.give(None)
        running = place.run(calls(1, 2))
        next(running)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="SIGTERM"):
            next(running)
        gate.set()
    assert not list(Path("/tmp").glob(f"clipmill-ray-{os.getpid()}-*"))


def test_what_kept_it_from_starting_is_said_when_it_is_needed(tmp_path):
    (tmp_path / "file").write_text("")
    broken = LOCAL.model_copy(update={"temp_dir": str(tmp_path / "file")})
    with StopSignals() as signals, cluster(broken, signals, [SMALL_BYTES, 5]) as place:
        place.give(None)
        place._there.wait(60)
        with pytest.raises(ClipmillError, match="curate.ray(.|\n)*hint: "):
            list(place.run(calls(1)))


@pytest.mark.parametrize(("sizes", "needs_ray", "env"), sampled([
    ([SMALL_BYTES + 1, 5], False, None), ([SMALL_BYTES, 5], True, None), (None, False, None),
    ([SMALL_BYTES], False, None),
    ([SMALL_BYTES, 5], False, {"env_vars": {"A": "1"}}),
], 4))  # fmt: skip
def test_large_and_tiny_inputs_asked_resources_and_environments_wait_for_ray(sizes, needs_ray, env):
    settings = LOCAL.model_copy(update={"runtime_env": env})
    with StopSignals() as signals, cluster(settings, signals, sizes, needs_ray) as place:
        assert isinstance(place, OnRay)
