"""Pools of actors on a real Ray with made-up GPUs: a device for life, a model once, deaths, and how many at a time."""

import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from curation.runner.calls import Call, Node, Pool
from curation.runner.cluster import cluster
from curation.runner.on_ray.actor_pool import room
from curation.runner.on_ray.session import imported_ray
from curation.settings import RaySettings
from pipeline.errors import ClipmillError, DataError
from pipeline.signals import StopSignals

seen: list[int] = []  # of one process


@pytest.fixture(scope="module")
def place():
    ray = imported_ray("local")
    quiet = {"include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", num_cpus=4, num_gpus=2, object_store_memory=80 << 20, **quiet)
    try:
        with StopSignals() as signals, cluster(RaySettings(address="local"), signals) as place:
            place.give({"factor": 2})
            yield place
    finally:
        ray.shutdown()


def work(job, number, folder, seconds=0.05):
    """(number, process, its GPUs, calls it has had); leaves a file while it runs."""
    seen.append(number)
    path = Path(folder, f"{os.getpid()}-{os.environ.get('CUDA_VISIBLE_DEVICES')}")
    path.write_text("")
    time.sleep(seconds)
    path.unlink()
    return number * job["factor"], os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), len(seen)


def met(job, number, folder, wanted):
    """As `work`, once so many processes have come, however long a busy machine takes to start them."""
    Path(folder, f"{os.getpid()}.here").touch()
    end = time.monotonic() + 90
    while len(list(Path(folder).glob("*.here"))) < wanted and time.monotonic() < end:
        time.sleep(0.05)
    return work(job, number, folder)


def crash(job, note, when):
    """Kills its process the first `when` times."""
    with open(note, "a") as file:
        file.write("x")
    if len(Path(note).read_text()) <= when:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die(job):
    """At once: the result of the call before it is still on its way."""
    os.kill(os.getpid(), signal.SIGKILL)


def slow_to_tell(job):
    """Its result waits until this process has nothing else to do: the thread that sends it comes last."""
    time.sleep(0.3)  # the next call lies here by now
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, {min(os.sched_getaffinity(0))})
            if thread != os.getpid():
                os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    return "done"


def logged(job, note, number):
    with open(note, "a") as file:
        file.write(f"{number}\n")
    time.sleep(0.2)
    return number


def refuse(job):
    raise DataError("stage x, bucket 3", "ValueError: no", "no exception", "look at y.py:7")


def ran(place, folder, number, gpus, pool=None, **more):
    calls = [Call(work, (n, str(folder)), "w", 0.1, gpus, pool=pool, **more) for n in range(number)]
    return [result for _, result in place.run(calls, "work")]


def ran_by(wanted, place, folder, number, gpus, pool):
    folder.mkdir(exist_ok=True)
    calls = [Call(met, (n, str(folder), wanted), "w", 0.1, gpus, pool=pool) for n in range(number)]
    return [result for _, result in place.run(calls, "work")]


@pytest.mark.exhaustive
def test_each_process_keeps_one_whole_gpu_for_life_and_no_two_share_one(place, tmp_path):
    results = ran(place, tmp_path, 40, 1)
    assert sorted(result[0] for result in results) == [2 * n for n in range(40)]
    devices = {pid: {device for _, who, device, _ in results if who == pid} for _, pid, _, _ in results}
    assert len(devices) == 2 and sorted(map(sorted, devices.values())) == [["0"], ["1"]]


@pytest.mark.exhaustive
def test_a_process_and_what_it_has_loaded_end_with_the_phase(place, tmp_path):
    first, second = ran(place, tmp_path, 12, 1), ran(place, tmp_path, 12, 1)
    assert not {pid for _, pid, _, _ in first} & {pid for _, pid, _, _ in second}
    for results in (first, second):  # module state: each process began with none, and kept it from call to call
        calls = Counter(pid for _, pid, _, _ in results)
        assert {pid: max(n for _, who, _, n in results if who == pid) for pid in calls} == calls
    end = time.monotonic() + 20
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for _, pid, _, _ in second):
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for _, pid, _, _ in second)


@pytest.mark.exhaustive
def test_quarters_of_a_gpu_share_it_and_each_keeps_its_own(place, tmp_path):
    results = ran_by(8, place, tmp_path, 60, 0.25, Pool("model", 8, 8))
    devices = {(pid, device) for _, pid, device, _ in results}
    assert len({pid for pid, _ in devices}) == len(devices) == 8
    assert Counter(device for _, device in devices) == {"0": 4, "1": 4}


@pytest.mark.exhaustive
def test_the_number_of_processes_follows_the_queue_between_its_bounds(place, tmp_path):
    assert len({pid for _, pid, *_ in ran_by(3, place, tmp_path / "a", 20, 0, Pool("three", 3, 3))}) == 3
    assert len({pid for _, pid, *_ in ran(place, tmp_path, 2, 0, Pool("two calls are one's", 1, 4))}) == 1
    assert 2 <= len({pid for _, pid, *_ in ran_by(2, place, tmp_path / "b", 30, 0, Pool("grows", 1, 4))}) <= 4
    # Two of them wait for ever.
    waiting = ran_by(2, place, tmp_path / "c", 8, 1, Pool("more than there is room for", 4, 4))
    assert len({pid for _, pid, *_ in waiting}) == 2


@pytest.mark.exhaustive
def test_calls_of_two_pools_and_of_none_run_at_once(place, tmp_path):
    kinds = (None, 0), (Pool("a"), 1), (Pool("b"), 1)
    calls = [Call(work, (n, str(tmp_path)), "w", 0.5, gpus, pool=pool) for pool, gpus in kinds for n in range(6)]
    done = [(call.pool, result) for call, result in place.run(calls, "mixed")]
    assert Counter(pool for pool, _ in done) == dict.fromkeys((None, Pool("a"), Pool("b")), 6)
    processes = [{result[1] for pool, result in done if pool == each} for each, _ in kinds]
    assert not processes[1] & processes[2]


@pytest.mark.exhaustive
def test_two_calls_at_most_lie_with_a_process(place, tmp_path):
    """What an abandoned run had been given: of one process, one that ran and one that waited behind it."""
    note = tmp_path / "note"
    note.write_text("")
    calls = [Call(logged, (str(note), n), "l", 0.1, pool=Pool("one", 1, 1)) for n in range(9)]
    results = place.run(calls, "l")
    call, _ = next(results)
    time.sleep(1.5)  # nobody feeds it meanwhile
    assert note.read_text().split() == ["0", "1"] and call.args[1] == 0
    assert [call.args[1] for call, _ in results] == list(range(1, 9))


def test_a_dead_process_is_replaced_and_its_calls_run_again(place, tmp_path):
    note = tmp_path / "note"
    others = [Call(work, (n, str(tmp_path)), "w", 0.1, 1) for n in range(6)]
    pool = Pool("all one", 1, 1)
    calls = [Call(crash, (str(note), 3), "bucket 7", 0.1, 1)]
    calls = [Call(c.function, c.args, c.where, 0.1, 1, pool=pool) for c in (*others[:3], *calls, *others[3:])]
    results = [result for _, result in place.run(calls, "crash")]
    assert results.count("done") == 1 and len(results) == 7 and note.read_text() == "xxxx"


@pytest.mark.exhaustive
def test_a_death_is_counted_against_the_call_that_ran_and_not_the_one_behind_it(place, tmp_path):
    notes = [tmp_path / name for name in "abc"]
    calls = [Call(crash, (str(note), 2), f"bucket {note.name}", 0.1, pool=Pool("p", 1, 1)) for note in notes]
    assert [result for _, result in place.run(calls, "crash")] == ["done"] * 3
    # A result that was on its way when the next call killed the process is lost with it, and made again.
    assert all(note.read_text() in ("xxx", "xxxx") for note in notes)


@pytest.mark.exhaustive
def test_a_call_that_kills_its_process_four_times_is_an_error_naming_it(place, tmp_path):
    note = tmp_path / "note"
    calls = [Call(work, (n, str(tmp_path)), f"bucket {n}", 0.1, pool=Pool("p", 1, 1)) for n in range(4)]
    calls.insert(2, Call(crash, (str(note), 99), "bucket 7", 0.1, pool=Pool("p", 1, 1)))
    with pytest.raises(ClipmillError, match="bucket 7: its process died four times(.|\n)*more `curate.buckets`"):
        list(place.run(calls, "crash"))
    assert 4 <= len(note.read_text()) <= 6  # a death may be laid to the call before, whose result it took along


@pytest.mark.exhaustive
@pytest.mark.parametrize("innocents", [1, 4])
def test_a_call_whose_result_was_lost_again_and_again_is_never_the_one_that_is_named(place, innocents):
    calls = [Call(slow_to_tell, (), f"bucket {n}", 0.1, pool=Pool("p", 1, 1)) for n in range(innocents)]
    calls.append(Call(die, (), "the killer", 0.1, pool=Pool("p", 1, 1)))
    with pytest.raises(ClipmillError, match="the killer: its process died four times"):
        list(place.run(calls, "die"))


def test_errors_leave_a_pool_as_they_were(place):
    with pytest.raises(DataError) as error:
        list(place.run([Call(refuse, (), "r", 0.1, 1)]))
    assert str(error.value) == "stage x, bucket 3: ValueError: no; no exception\nhint: look at y.py:7"


@pytest.mark.parametrize(
    ("asks", "node", "fits"),
    [
        (Call(work, (), "", 1, 1), Node("", "", 8, 4), 4),
        (Call(work, (), "", 3, 1), Node("", "", 8, 4), 2),
        (Call(work, (), "", 0, 0.25), Node("", "", 8, 2), 8),
        (Call(work, (), "", 1, 0, 3 << 30), Node("", "", 8, 0, 10 << 30), 3),
        (Call(work, (), "", 0, 0), Node("", "", 8, 0), 8),
        (Call(work, (), "", 1, 1), Node("", "", 8, 0), 0),
    ],
)
def test_room_is_what_the_scarcest_resource_allows(asks, node, fits):
    assert room(asks, node) == fits
