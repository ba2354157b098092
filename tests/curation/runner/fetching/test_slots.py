"""The turns of one slot."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.fetch.settings import FetchSettings
from curation.job import make_job
from curation.pool.store import part_folder
from curation.runner.fetching import slots
from curation.runner.fetching.asking import WANTED, Plan, slot_of_url
from curation.settings import CurateSettings
from curation.table import packs
from tests.helpers.small_crawl import picture
from tests.helpers.web import LOOPBACK, Says, web


def work(folder, rows, sources=3, **fetch):
    """Job, plan, and the packs of a slot that has these (uid, url)."""
    plain = {"sources": [{"kind": "warc", "paths": ["none"]}], "output": str(folder), "fetch": True}
    job = make_job(CurateSettings.model_validate(plain), 0, [])
    plan = Plan(str(folder / "plan"), FetchSettings(allow_networks=(LOOPBACK,), **fetch), 1, 0, 0)
    names = [str(folder / f"urls-{at}.pack") for at in range(sources)]
    for at, name in enumerate(names):
        mine = [dict(zip(WANTED.names, (*row, False), strict=True)) for row in rows[at::sources]]
        table = pa.Table.from_pylist(mine, schema=WANTED)
        packs.publish_cut(name, table, np.zeros(table.num_rows, int), 1)
    return job, plan, names


def images(job):
    files = Path(part_folder(job.pool, "")).glob("fetched-*/part.json")
    return [row for file in files for row in pq.read_table(file.with_name("images.parquet")).to_pylist()]


def test_one_url_of_two_uids_is_asked_once_and_is_an_answer_to_both(tmp_path):
    with web({"/a": Says(200, picture(1))}) as server:
        job, plan, names = work(tmp_path, [("1" * 32, server.url("/a")), ("2" * 32, server.url("/a"))], 1)
        told = slots.turn(job, plan, 0, 0, names, 100.0)
        assert told["is_done"] and told["good"] == 1 and server.paths()["/a"] == 1
        rows = images(job)
        assert sorted(row["uid"] for row in rows) == ["1" * 32, "2" * 32]
        assert len({(row["sha256"], row["offset"]) for row in rows}) == 1


def test_urls_that_have_failed_before_say_nothing_of_how_it_goes(tmp_path):
    with web({"/a": Says(200, picture(1))}) as server:
        job, plan, names = work(tmp_path, [("1" * 32, server.url("/a")), ("2" * 32, server.url("/gone"))], 1)
        table = pa.concat_tables(packs.read_pack(names[0], 0, 1)).set_column(
            2, WANTED.field(2), pa.array([False, True])
        )
        packs.publish_cut(names[0], table, np.zeros(2, int), 1)
        told = slots.turn(job, plan, 0, 0, names, 100.0)
        assert told["reasons"] == {"": 1, "http_error 404": 1} and (told["counted"], told["good"]) == (1, 1)


def test_a_slot_is_worked_through_in_chunks_and_found_done(tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "CHUNK_URLS", 4)
    with web({f"/{n}": Says(200, picture(n)) for n in range(20)}) as server:
        rows = [(f"{n:032x}", server.url(f"/{n}")) for n in range(20)]
        job, plan, names = work(tmp_path, rows, 7, commit_urls=2)
        assert slots.turn(job, plan, 0, 0, names, 100.0)["good"] == 20
        assert len(images(job)) == 20 and set(server.paths().values()) == {1}
        again = slots.turn(job, plan, 0, 0, names, 100.0)
        assert again["is_done"] and again["good"] == 0 and set(server.paths().values()) == {1}


def test_a_task_that_died_goes_on_behind_what_it_committed(tmp_path):
    """Ray runs it again, on another node perhaps."""
    routes = {f"/{n}": Says(200, picture(n)) for n in range(30)}
    with web(routes) as server:
        job, plan, names = work(tmp_path, [(f"{n:032x}", server.url(f"/{n}")) for n in range(30)], commit_urls=4)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(slots._Turn, "_noted", failing_at(slots._Turn._noted, 10))
            with pytest.raises(Exception, match="dies"):
                slots.turn(job, plan, 0, 0, names, 100.0)
        had = {row["url"] for row in images(job)}
        server.asked.clear()
        assert slots.turn(job, plan, 0, 0, names, 100.0)["is_done"]
        assert len(had) == 8 and had.isdisjoint(server.url(path) for path in server.paths())
        assert {row["url"] for row in images(job)} == {server.url(path) for path in routes}


def failing_at(real, number):
    count = []

    def noted(self, outcome):
        count.append(outcome)
        if len(count) == number:
            raise RuntimeError("dies")
        return real(self, outcome)

    return noted


def test_all_urls_of_a_host_are_in_one_slot_whatever_the_port():
    hosts = ["a.test", "b.test", "127.0.0.1", "[2001:db8::1]", "xn--bcher-kva.test"]
    for host in hosts:
        urls = [f"http://{host}/1", f"https://{host}/2", f"http://{host}:8080/3", f"https://{host}:81/4?a=b:c"]
        assert len({slot_of_url(url, 1 << 20) for url in urls}) == 1
    assert len({slot_of_url(f"http://{host}/", 1 << 20) for host in hosts}) == len(hosts)


def test_turns_are_short_at_first_and_bounded():
    lengths = [slots.pace(number) for number in range(100)]
    assert lengths[0] == 10 and lengths == sorted(lengths) and lengths[-1] == 600
