"""Plain tasks on a real Ray: how many at a time, shares of a CPU, memory promised once, and names for people."""

import time

import pytest

from curation.runner.calls import Call, Pool
from curation.runner.cluster import cluster
from curation.runner.on_ray.session import imported_ray
from curation.settings import RaySettings
from pipeline.signals import StopSignals

GIB = 1 << 30


@pytest.fixture(scope="module")
def place():
    ray = imported_ray("local")
    sizes = {"num_cpus": 2, "object_store_memory": 80 << 20, "_memory": 4 * GIB}
    ray.init(address="local", include_dashboard=False, log_to_driver=False, **sizes)
    try:
        with StopSignals() as signals, cluster(RaySettings(address="local"), signals) as place:
            place.give(None)
            yield place
    finally:
        ray.shutdown()


def spanned(job, number, seconds):
    began = time.time()
    time.sleep(seconds)
    return number, began, time.time()


def at_a_time(spans):
    """The most that ran at one moment."""
    return max(sum(begin <= each < end for _, begin, end in spans) for _, each, _ in spans)


def ran(place, number, seconds=0.3, **asks):
    calls = [Call(spanned, (n, seconds), "s", **asks) for n in range(number)]
    return [result for _, result in place.run(calls, "spans")]


def test_every_call_has_one_result_though_they_come_in_batches(place):
    assert sorted(number for number, _, _ in ran(place, 500, 0.0)) == list(range(500))


def met(job, number, folder):
    """Stays until two others are there, however long the machine takes to bring them."""
    began = time.time()
    (folder / str(number)).touch()
    while len(list(folder.iterdir())) < 3 and time.time() < began + 60:
        time.sleep(0.05)
    return number, began, time.time()


def met_at_a_time(place, folder, **asks):
    calls = [Call(met, (number, folder), "s", **asks) for number in range(8)]
    return at_a_time([result for _, result in place.run(calls, "spans")])


@pytest.mark.exhaustive
def test_memory_is_promised_once(place, tmp_path):
    spans = ran(place, 4, cpus=0.1, memory=3 * GIB)
    assert len(spans) == 4 and at_a_time(spans) == 1
    assert 2 < met_at_a_time(place, tmp_path, cpus=0.1, memory=GIB) <= 4


@pytest.mark.exhaustive
def test_shares_of_a_cpu_run_side_by_side(place, tmp_path):
    assert at_a_time(ran(place, 4, cpus=1)) <= 2
    assert 2 < met_at_a_time(place, tmp_path, cpus=0.5) <= 4


@pytest.mark.exhaustive
def test_the_dashboard_shows_a_stage_as_one_line_of_tasks(place):
    """By the events that the dashboard counts by name; the dashboard itself needs packages that curation does not."""
    list(place.run([Call(spanned, (n, 0.0), f"opt_out, bucket {n}") for n in range(9)], "opt_out, image_decode"))
    list(place.run([Call(spanned, (n, 1.0), "b", pool=Pool("m", 1, 1)) for n in range(4)], "caption_rules"))
    wanted = {
        "task::opt_out, image_decode": 9,
        "task::caption_rules": True,
    }  # an actor keeps its last second
    end, seen = time.monotonic() + 30, {}
    while seen != wanted and time.monotonic() < end:
        kinds = [event["cat"] for event in imported_ray("local").timeline()]
        seen = {kind: kinds.count(kind) if want is not True else kind in kinds for kind, want in wanted.items()}
        time.sleep(0.5)
    assert seen == wanted, sorted(set(kinds))
