"""The alarm: the first failure is the one that counts, and a rank that is blocked in a collective ends all the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from pipeline.errors import DataError
from tests.helpers.places import ROOT
from training.launch.launcher import _free_port
from training.ranks import alarm
from training.ranks.alarm import Alarm, Failure, Followed
from training.ranks.place import Place


class Store:
    """A key-value store in memory, as torch's: `add` counts, `get` is of what is there."""

    def __init__(self, lost: bool = False) -> None:
        self.held: dict[str, Any] = {}
        self.lost, self._lock = lost, threading.Lock()

    def _asked(self) -> None:
        if self.lost:
            raise ConnectionError("the server is gone")

    def add(self, key: str, number: int) -> int:
        self._asked()
        with self._lock:
            self.held[key] = self.held.get(key, 0) + number
            return self.held[key]

    def set(self, key: str, value: str) -> None:
        self._asked()
        self.held[key] = value.encode()

    def get(self, key: str) -> bytes:
        self._asked()
        return self.held[key]

    def check(self, keys: list[str]) -> bool:
        self._asked()
        return all(key in self.held for key in keys)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("EVERY_S", 0.01), ("LOST_S", 0.2), ("LINGER_S", 0.5)):
        monkeypatch.setattr(alarm, name, seconds)


def watched(store: Store, rank: int, world: int = 3) -> tuple[Alarm, list[Failure], threading.Event]:
    one, heard, told = Alarm(store, rank, world), [], threading.Event()

    def leave(failure: Failure) -> None:
        heard.append(failure)
        told.set()

    one.watch(leave)
    return one, heard, told


def test_every_other_rank_hears_the_first_failure_and_it_alone() -> None:
    store = Store()
    ranks = [watched(store, rank) for rank in range(3)]
    first = ranks[1][0].ring(78, "shard-7 is cut", "in the reader of step 3")
    assert ranks[0][2].wait(5) and ranks[2][2].wait(5) and ranks[1][1] == []
    assert ranks[0][1] == ranks[2][1] == [first] and (first.rank, first.code) == (1, 78)
    later = Alarm(store, 2, 3).ring(1, "Connection closed by peer", "")
    assert later == first
    assert str(first).startswith("rank 1 of 3 on ") and str(first).endswith(" in the reader of step 3: shard-7 is cut")
    assert Followed(first).exit_code == 78


def test_the_rank_that_serves_the_store_waits_for_the_others_to_read_and_not_for_ever() -> None:
    store = Store()
    others = [watched(store, rank) for rank in (1, 2)]
    began = time.monotonic()
    Alarm(store, 0, 3).ring(1, "x", "")
    assert all(told.is_set() for _, _, told in others) and time.monotonic() - began < 0.45
    began = time.monotonic()
    Alarm(Store(), 0, 3).ring(1, "x", "")
    assert 0.4 < time.monotonic() - began < 2
    began = time.monotonic()
    Alarm(Store(), 1, 3).ring(1, "x", "")
    assert time.monotonic() - began < 0.3


def test_a_store_that_is_gone_ends_a_rank_that_still_works_and_none_that_is_done() -> None:
    store = Store()
    done, heard_by_done, _ = watched(store, 1)
    _, heard, told = watched(store, 2)
    done.rest()
    store.lost = True
    assert told.wait(5) and "is gone" in str(heard[0]) and heard[0].code == 1
    time.sleep(0.3)
    assert heard_by_done == []
    assert Alarm(Store(lost=True), 1, 3).ring(2, "mine", "").words == "mine"  # nobody to tell


def test_a_place_is_said_in_words_once_there_is_a_step() -> None:
    place = Place()
    assert str(place) == ""
    place.enter("reader", 0)
    assert str(place) == "in the reader of step 0"
    place.enter("optimizer")
    assert str(place) == "in the optimizer step of step 0"


_RANK = """
import os, sys, time
from training.ranks.alarm import Alarm
from training.ranks.peers import init_peers
peers = init_peers("gloo", 600.0, "cpu")
alarm = Alarm(peers.board(), peers.rank, peers.world)
alarm.watch(lambda failure: (print(failure, flush=True), os._exit(failure.code)))
peers.barrier()
if peers.rank == 1:
    alarm.ring(78, "no more", "in the reader of step 3")
    print("told", flush=True)
    time.sleep(600)  # as a rank whose communicators cannot be tidied up
peers.barrier()
"""


@pytest.mark.slow
def test_ranks_in_a_collective_end_although_the_failed_one_is_still_there() -> None:
    assert DataError.exit_code == 78
    meet = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "OMP_NUM_THREADS": "1"}
    meet |= {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK], env={**os.environ, **meet, "RANK": str(rank)}, stdout=subprocess.PIPE,
            text=True, cwd=ROOT,
        )
        for rank in range(3)
    ]  # fmt: skip
    try:
        assert ranks[1].stdout is not None and ranks[1].stdout.readline() == "told\n"
        began = time.monotonic()
        said = [ranks[rank].communicate(timeout=60)[0] for rank in (0, 2)]
        seconds = time.monotonic() - began
    finally:
        for rank in ranks:
            rank.send_signal(signal.SIGKILL)
            rank.wait()
    print(f"the others ended after {seconds:.2f} s")
    assert [ranks[rank].returncode for rank in (0, 2)] == [78, 78] and seconds < 10
    assert all(words.startswith("rank 1 of 3 on ") and "in the reader of step 3: no more" in words for words in said)
