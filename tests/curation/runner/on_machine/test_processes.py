"""Tasks in processes of this machine: results, errors, deaths and stops, and that nothing is left."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
import threadpoolctl

from curation.runner.calls import Call, Pool
from curation.runner.cluster import cluster
from curation.runner.on_machine import nursery, processes
from curation.settings import RaySettings
from pipeline.errors import ClipmillError, Stopped
from pipeline.signals import StopSignals
from tests.helpers.places import ROOT
from tests.helpers.wrong_tasks import errors_arrive_as_they_left

TWO = RaySettings(address="processes", num_cpus=2)


def told(job, number, seconds=0.0):
    time.sleep(seconds)
    return number, job, os.getpid()


def unsendable(job):
    return lambda: None


def die(job, note, times):
    """Its process dies `times` times; then it returns how often."""
    with open(note, "a") as file:
        file.write("x")
    if len(Path(note).read_text()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return Path(note).read_text()


def noisy(job):
    os.write(1, b"out"), os.write(2, b"err")
    print("out", "err", flush=True)
    return os.environ["OMP_NUM_THREADS"]


def opened(job):
    """What this process has open, but lines to others, and how many threads numpy and pyarrow take for a product."""
    links = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            links.add(os.readlink(f"/proc/self/fd/{name}"))
    blas = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return {link for link in links if not link.startswith("socket:")}, blas | {pa.cpu_count()}


def calls(*numbers: int, seconds: float = 0.0) -> list[Call]:
    return [Call(told, (number, seconds), f"call {number}") for number in numbers]


def results(place, what: list[Call]) -> list:
    return [result for _, result in place.run(what)]


def warmed(place) -> set[int]:
    """Processes of both workers, once they are there."""
    found, end = set(), time.monotonic() + 60
    while len(found) < 2:
        assert time.monotonic() < end
        found |= {pid for *_, pid in results(place, calls(0, 0, seconds=0.05))} - {os.getpid()}
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids) -> bool:
    end = time.monotonic() + 10
    while any(map(lives, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(lives, pids))


@pytest.fixture(params=[False, True], ids=["of a Python of its own", "of a fork"])
def place(request, monkeypatch):
    monkeypatch.setattr(processes, "may_fork", lambda: True)  # pytest's own threads hold nothing that is of use here
    with StopSignals() as signals, cluster(TWO, signals, is_ours=request.param) as found:
        found.give("job")
        yield found


def test_this_process_works_until_another_is_there_and_then_others_do(place):
    assert results(place, calls(1)) == [(1, "job", os.getpid())]
    workers = warmed(place)
    found = results(place, calls(*range(20), seconds=0.01))
    assert sorted(number for number, *_ in found) == list(range(20))
    assert {job for _, job, _ in found} == {"job"} and {pid for *_, pid in found} == workers
    place.give({"another": 1})
    assert [job for _, job, _ in results(place, calls(1, 2, 3))] == 3 * [{"another": 1}]
    parent = place._nursery._process.pid
    place.close()
    assert not any(map(lives, {parent, *workers})), "gone when it returns, not some time later"


def test_what_is_for_a_pool_of_its_own_runs_in_this_process_though_others_are_there(place):
    warmed(place)
    own = [Call(told, (n,), "own", gpus=gpus, pool=pool) for n, gpus, pool in ((1, 0, Pool("server")), (2, 1, None))]
    found = results(place, [*calls(3), *own])
    assert [(number, pid == os.getpid()) for number, _, pid in found] == [(1, True), (2, True), (3, False)]


def test_errors_arrive_as_they_left(place):
    warmed(place)
    errors_arrive_as_they_left(place)
    with pytest.raises(ClipmillError, match="pickle(.|\n)*curate.ray.address=inline"):
        results(place, [Call(unsendable, (), "u")])
    assert [number for number, *_ in results(place, calls(5))] == [5]


def test_a_call_whose_process_dies_is_run_again_and_at_the_fourth_death_an_error(place, tmp_path):
    warmed(place)
    others = calls(*range(10), seconds=0.01)
    found = results(place, [Call(die, (str(tmp_path / "few"), 3), "bucket 7"), *others])
    assert "xxxx" in found and len(found) == 11
    with pytest.raises(ClipmillError, match="bucket 7: its process died four times(.|\n)*more `curate.buckets`"):
        results(place, [Call(die, (str(tmp_path / "many"), 99), "bucket 7"), *others])
    assert (tmp_path / "many").read_text() == "xxxx"


def test_processes_that_die_between_calls_are_replaced(place):
    before = warmed(place)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert gone(before) and not warmed(place) & before
    parent = place._nursery._process.pid
    before = warmed(place)
    os.kill(parent, signal.SIGKILL)
    assert gone({parent, *before}), "they die with who made them"
    assert {number for number, *_ in results(place, calls(3, 4))} == {3, 4} and not warmed(place) & before


_HANGS_UP = """import os, socket, sys
line = socket.socket(fileno=int(sys.argv[1]))
while handles := socket.recv_fds(line, 1, 1)[1]:
    os.close(handles[0])
"""


@pytest.mark.parametrize(
    ("start", "said"), [("import sys; sys.exit('no module named so')", ": no module named so"), (_HANGS_UP, ";")]
)
def test_what_kept_them_from_starting_is_said(monkeypatch, start, said):
    monkeypatch.setattr(nursery, "_START", start)
    with StopSignals() as signals, cluster(TWO, signals) as place:
        with pytest.raises(ClipmillError, match=f"four times{said}(.|\n)*address=inline"):
            for _ in range(1000):
                results(place, calls(1, seconds=0.01))


def test_a_machine_without_room_for_a_process_is_told(monkeypatch):
    def full(is_fork):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes, "Nursery", full)
    with pytest.raises(ClipmillError, match="no process started for tasks, four times(.|\n)*ulimit -u"):
        with StopSignals() as signals, cluster(TWO, signals):
            pass


def test_a_stop_and_a_consumer_that_goes_end_what_runs(place):
    workers = warmed(place)
    running = place.run(calls(1, 2, 3, seconds=0.3))
    next(running)
    running.close()
    assert gone(workers)
    workers = warmed(place)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        results(place, calls(1, 2, seconds=60))
    assert gone(workers) and time.monotonic() - began < 30


def test_a_worker_minds_no_signal_that_its_driver_is_sent_too(place):
    workers = warmed(place)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        for pid in (*workers, place._nursery._process.pid):
            os.kill(pid, number)
    assert warmed(place) == workers


def test_a_worker_holds_nothing_of_its_driver_and_takes_one_thread(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "may_fork", lambda: True)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # who sets it says how many
    with open(tmp_path / "lock", "w") as lock, StopSignals() as signals, cluster(TWO, signals, is_ours=True) as place:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.give(None)
        warmed(place)
        assert results(place, [Call(opened, (), "o")]) == [({"/dev/null"}, {1})]
        fcntl.flock(lock, fcntl.LOCK_UN)


@pytest.mark.parametrize(
    ("loaded", "forks"),
    [("", True), ("import torch", False), ("threading.Thread(target=time.sleep, args=[9]).start()", False)],
)
def test_only_of_a_process_without_threads_that_a_fork_would_lack_one_is_made(loaded, forks):
    script = f"import os, threading, time\nfrom curation.runner.on_machine import nursery\n{loaded}\n"
    script += "print(nursery.may_fork(), flush=True)\nos._exit(0)"
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert found.stdout == f"{forks}\n"


@pytest.mark.parametrize("is_ours", [False, True])
def test_they_die_with_a_driver_that_is_killed(tmp_path, is_ours):
    script = (
        "import sys\n"
        "from tests.curation.runner.on_machine import test_processes as t\n"
        f"with t.StopSignals() as signals, t.cluster(t.TWO, signals, is_ours={is_ours}) as place:\n"
        "    place.give(None)\n"
        "    print(*t.warmed(place), place._nursery._process.pid, flush=True)\n"
        "    t.results(place, t.calls(1, 2, seconds=60))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in driver.stdout.readline().split()]
    assert len(pids) == 3 and all(map(lives, pids))
    driver.kill(), driver.wait()
    assert gone(pids)


def test_the_fork_is_of_one_thread_of_python_and_workers_are_quiet(place, capfd):
    """Arrow's allocator has a thread besides, and sees to its own forks."""
    parent = place._nursery._process.pid
    for pid in (*warmed(place), parent):
        threads = [(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()]
        assert threads.count(nursery.NAME) == 1 and set(threads) - {nursery.NAME} <= {"jemalloc_bg_thd"}
    assert results(place, [Call(noisy, (), "n")]) == [os.environ.get("OMP_NUM_THREADS", "1")]
    assert capfd.readouterr() == ("", "")
