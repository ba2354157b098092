"""One run at a time asks: by a lock where there are some, elsewhere by a claim that must be renewed."""

import threading
import time

import pyarrow as pa
import pytest

from curation.pool.columns import Columns
from curation.runner.closing.served import alone as turns
from curation.runner.closing.served.alone import CLAIM, Lease, alone
from pipeline import storage
from pipeline.errors import Stopped

SCHEMA = pa.schema([pa.field("key", pa.string())])


@pytest.fixture(params=["local", "store"])
def columns(request, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "BEAT_S", 0.05)
    monkeypatch.setattr(turns, "OVER_S", 1.0)
    monkeypatch.setattr(turns, "GONE_S", 2.0)
    monkeypatch.setattr(turns, "_LOOK_S", 0.02)
    return Columns(str(tmp_path) if request.param == "local" else f"memory://{tmp_path}", "digest", SCHEMA, 1)


def test_of_many_that_come_at_once_one_at_a_time_is_alone(columns):
    inside, most, order = [0], [0], []

    def work(number):
        with alone(columns, "generate"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.3)
            inside[0] -= 1
            order.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert most == [1] and sorted(order) == [0, 1, 2, 3]
    assert not storage.exists(storage.join(columns.folder, CLAIM))


def test_whoever_waits_can_be_told_to_stop_and_says_for_whom_it_waits(columns, monkeypatch):
    with alone(columns, "generate"):
        monkeypatch.setattr(turns, "stop_asked", lambda: True)
        with pytest.raises(Stopped, match="another run is at work here: host .*, process"), alone(columns, "generate"):
            pass


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "BEAT_S", 0.05)
    monkeypatch.setattr(turns, "OVER_S", 0.5)
    monkeypatch.setattr(turns, "GONE_S", 1.0)
    return Columns(f"memory://{tmp_path}", "digest", SCHEMA, 1)


def test_a_claim_that_nobody_renews_is_taken_over_and_a_worker_of_its_run_stops_by_itself_before(store):
    url = storage.join(store.folder, CLAIM)
    storage.publish_json(url, {"run": "dead", "host": "h", "pid": 1, "since": "s", "beat": 7})
    worker, stopped_at = Lease(url, "dead"), []

    def watch():
        while not worker.is_over():
            worker.look()
            time.sleep(0.01)
        stopped_at.append(time.monotonic())

    watching = threading.Thread(target=watch)
    watching.start()
    with alone(store, "generate") as lease:
        taken_at = time.monotonic()
        watching.join(30)
        assert stopped_at[0] < taken_at and not lease.is_over()


def test_a_claim_that_another_run_has_taken_is_over_at_the_next_look_and_is_left_to_it(store):
    url = storage.join(store.folder, CLAIM)
    with alone(store, "generate") as lease:
        lease.look()
        assert not lease.is_over()
        storage.publish_json(url, {"run": "another", "beat": 0})
        lease.look()
        assert lease.is_over()
    assert storage.json_object(storage.read_bytes(url))["run"] == "another"
