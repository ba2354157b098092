"""A download from end to end: what is asked for, what comes of it, and what a rerun does."""

import json
import shutil
import socket
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.fetch.settings import FetchSettings
from curation.runner.driver import curate
from curation.runner.fetching import slots
from curation.settings import CurateSettings
from pipeline.contract.dataset import verify
from pipeline.errors import DataError, RecipeError, Stopped
from tests.helpers import downloads, small_crawl
from tests.helpers.lanes import sampled
from tests.helpers.small_crawl import picture
from tests.helpers.web import Says, web


@pytest.fixture(scope="module")
def site():
    with web() as server:
        downloads.serve(server)
        yield server


def made(folder, rows, **more):
    plain = downloads.recipe(folder, rows, **more)
    return curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True), folder / "out"


def again(folder, **more):
    """The same command."""
    plain = json.loads(json.dumps(more.pop("plain")))
    plain["fetch"] = {**plain["fetch"], **more}
    return curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)


def drops(manifest):
    return manifest.stages[0].drops


def ledgers(out):
    files = (out / "_pool" / "parts").glob("fetched-*/ledger.parquet")
    return [row for file in sorted(files) for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def reference(site, tmp_path_factory):
    site.asked.clear()
    found = made(tmp_path_factory.mktemp("reference"), downloads.pages(site))
    return *found, Counter(site.paths())


def test_what_was_downloaded_is_what_a_crawl_of_it_would_have_been(site, reference, tmp_path):
    manifest, out, _ = reference
    crawled, there = made(tmp_path, downloads.records(site), fetch=False)
    assert manifest.digest() == crawled.digest() and manifest.num_pairs > 10
    assert small_crawl.outcome(out) == small_crawl.outcome(there)
    assert verify(str(out)).problems == []


def test_every_url_is_asked_for_once_and_has_one_outcome(site, reference):
    manifest, out, asked = reference
    assert set(asked.values()) == {1}  # robots.txt and 404s, too
    assert drops(manifest) == {"http_error": 12, "no_caption": 4, "noai": 4, "not_image": 4}
    fetched = manifest.inputs[-1]
    assert fetched.path == "(downloaded)"
    assert fetched.counts == {
        "urls": 56, "images_stored": 36, "failed:http_error_404": 12, "failed:noai": 4, "failed:not_image": 4,
    }  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert summary["inputs"][-1]["counts"] == fetched.counts
    assert {(row["url"], row["attempts"]) for row in ledgers(out)} == {
        (site.url(path), 1) for path in asked if path != "/robots.txt"
    }


@pytest.mark.parametrize(
    ("files", "buckets", "commit_urls", "rows_a_slot"),
    sampled([(3, 4, 10_000, 5_000), (1, 16, 7, 3), (2, 1, 1, 20)], 1),
)
def test_the_cut_the_buckets_and_the_batches_leave_no_trace(
    site, reference, tmp_path, monkeypatch, files, buckets, commit_urls, rows_a_slot
):
    monkeypatch.setattr("curation.runner.fetching.phase._SLOT_ROWS", rows_a_slot)
    monkeypatch.setattr("curation.runner.fetching.phase._FAN", 2)
    more = {"files": files, "buckets": buckets, "fetch": {"commit_urls": commit_urls, "threads": 3}}
    manifest, out = made(tmp_path, downloads.pages(site), **more)
    assert small_crawl.outcome(out) == small_crawl.outcome(reference[1])
    assert manifest.inputs[-1] == reference[0].inputs[-1]
    assert json.loads((out / "summary.json").read_text())["job_digest"] == job_digest(reference[1]) or files > 1


def job_digest(out):
    return json.loads((out / "summary.json").read_text())["job_digest"]


def test_a_finished_download_asks_nobody(site, tmp_path):
    plain = downloads.recipe(tmp_path, downloads.pages(site))
    first = again(tmp_path, plain=plain)
    site.asked.clear()
    assert again(tmp_path, plain=plain) == first
    assert again(tmp_path, plain=plain, retry=True) == first  # nothing failed in passing
    assert again(tmp_path, plain={**plain, "stages": plain["stages"][:3]}).num_pairs > first.num_pairs
    assert site.asked == []


def test_a_crawl_downloads_nothing_unless_it_is_told_to(site, tmp_path):
    site.asked.clear()
    for fetch in (False, None, {"enabled": False}):
        plain = downloads.recipe(tmp_path, downloads.records(site))
        plain["fetch"] = fetch
        manifest = curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
        assert drops(manifest)["image_missing"] == 8 and len(manifest.inputs) == 1
    assert site.asked == []


def test_only_what_failed_in_passing_is_asked_again_and_only_when_it_is_asked_to(tmp_path):
    fate = {"/good": Says(200, picture(1)), "/gone": Says(404), "/busy": Says(503), "/odd": Says(200, b"<html>")}
    with web(fate) as server:
        plain = downloads.recipe(tmp_path, [downloads.page([server.url(path) for path in fate])], fetch={"retries": 1})
        plain["stages"] = []
        first = again(tmp_path, plain=plain)
        assert drops(first) == {"http_error": 2, "not_image": 1} and server.paths()["/busy"] == 2
        assert first.inputs[-1].counts["failed:http_error_503"] == 1
        again(tmp_path, plain=plain)
        assert server.paths()["/busy"] == 2

        server.asked.clear()
        assert again(tmp_path, plain=plain, retry=True).digest() == first.digest()
        assert server.paths() == {"/robots.txt": 1, "/busy": 2}

        server.asked.clear()
        server.routes["/busy"] = Says(200, picture(2))
        second = again(tmp_path, plain=plain, retry=True)
        assert server.paths() == {"/robots.txt": 1, "/busy": 1}
        assert second.num_pairs == 2 and drops(second) == {"http_error": 1, "not_image": 1}
        server.asked.clear()
        assert again(tmp_path, plain=plain, retry=True) == second and server.asked == []

        fresh = made(tmp_path / "fresh", [downloads.page([server.url(path) for path in fate])], stages=[])[0]
        assert second.digest() == fresh.digest() and second.inputs[-1] == fresh.inputs[-1]


def test_further_inputs_download_what_they_alone_mention(tmp_path):
    with web({f"/{n}": Says(200, picture(n)) for n in range(20)}) as server:
        urls = [server.url(f"/{n}") for n in range(20)]
        plain = downloads.recipe(tmp_path, [downloads.page(urls[:12])], stages=[])
        again(tmp_path, plain=plain)
        server.asked.clear()
        more = small_crawl.write(tmp_path / "more", [downloads.page(urls[8:], "other")])
        plain["sources"].append({"kind": "warc", "paths": more})
        manifest = again(tmp_path, plain=plain)
        assert server.paths() == {"/robots.txt": 1} | {f"/{n}": 1 for n in range(12, 20)}
        assert manifest.num_pairs == 20 and manifest.inputs[-1].counts["urls"] == 20


def test_another_job_of_a_pool_has_what_was_downloaded_and_no_pair_of_what_it_does_not_mention(tmp_path):
    with web({f"/{n}": Says(200, picture(n)) for n in range(20)}) as server:
        urls, pool = [server.url(f"/{n}") for n in range(20)], str(tmp_path / "pool")
        made(tmp_path / "one", [downloads.page(urls)], stages=[], pool=pool)
        server.asked.clear()
        manifest, _ = made(tmp_path / "other", [downloads.page(urls[:5], "other")], stages=[], pool=pool)
        assert server.asked == [] and manifest.num_pairs == 5 and manifest.stages[0].pairs_in == 5
        alone, _ = made(tmp_path / "alone", [downloads.page(urls[:5], "other")], stages=[])
        assert manifest.digest() == alone.digest() and manifest.inputs == alone.inputs


def redirected(server, other):
    """Paths that redirect, and where to."""
    to = {
        "/a": "/b", "/b": other.url("/c"), "/loop": "/loop", "/inside": "http://10.0.0.7/x.png",
        "/meta": "http://169.254.169.254/latest", "/file": "file:///etc/passwd", "/lost": "/nowhere", "/quiet": "/b",
        **{f"/h{n}": f"/h{n + 1}" for n in range(7)},
    }  # fmt: skip
    return {path: Says(302, headers={"Location": target}) for path, target in to.items()}


def test_redirects_are_followed_hop_by_hop_each_under_the_rules_of_its_host(tmp_path):
    with web() as server, web({"/c": Says(200, picture(3), {"X-Robots-Tag": "noindex"})}) as other:
        server.routes |= redirected(server, other) | {"/h5": Says(200, picture(9))}
        server.routes["/shy"] = Says(302, headers={"Location": "/b", "X-Robots-Tag": "noai"})
        paths = ["/a", "/loop", "/inside", "/meta", "/file", "/lost", "/shy", "/h0"]
        other.routes["/robots.txt"] = Says(200, b"User-agent: *\nAllow: /c")
        manifest, out = made(tmp_path, [downloads.page([server.url(path) for path in paths])], stages=[])
        assert drops(manifest) == {"redirect_loop": 1, "private_address": 2, "not_http": 1, "http_error": 1, "noai": 1}
        assert manifest.num_pairs == 2
        assert set(server.paths().values()) == {1} and other.paths() == {"/robots.txt": 1, "/c": 1}

        other.routes["/robots.txt"] = Says(200, b"User-agent: *\nDisallow: /c")
        with pytest.raises(DataError, match="robots_txt 1"):
            made(tmp_path / "refused", [downloads.page([server.url("/a")])], stages=[])


def test_a_redirect_of_the_crawl_is_followed_to_what_it_lacks(tmp_path):
    with web({"/there": Says(200, picture(3))}) as server:
        page = downloads.page([server.url("/a")])
        moved = (server.url("/a"), 302, "text/plain", b"", "")
        plain = downloads.recipe(tmp_path, [page, moved], stages=[])
        # small_crawl writes no Location: the crawl's own answer is an error then, and is asked for again
        server.routes["/a"] = Says(301, headers={"Location": "/there"})
        assert again(tmp_path, plain=plain).num_pairs == 1
        assert server.paths() == {"/robots.txt": 1, "/a": 1, "/there": 1}


def test_a_download_that_has_hardly_anything_stops_and_goes_on_where_it_stopped(site, tmp_path):
    site.asked.clear()
    dead = [f"http://127.0.0.1:{free_port()}/{n}" for n in range(40)]
    rows = [*downloads.pages(site), downloads.page(dead)]
    plain = downloads.recipe(tmp_path, rows, fetch={"window": 20, "min_success": 0.9, "retries": 0})
    with pytest.raises(Stopped) as stopped:
        again(tmp_path, plain=plain)
    said = str(stopped.value)
    assert stopped.value.exit_code == 75 and "connect " in said and "curate.fetch.min_success" in said
    assert not (tmp_path / "out" / "manifest.json").exists()
    manifest = again(tmp_path, plain=plain, min_success=0)
    paths = site.paths()
    assert paths.pop("/robots.txt") <= 2 and set(paths.values()) == {1}  # what was had is had
    assert drops(manifest)["connect"] == 40


def test_a_download_of_which_nothing_comes_is_not_finished(site, tmp_path):
    """Fewer urls than a window: a machine without a network, say."""
    plain = downloads.recipe(tmp_path, [downloads.page([f"http://127.0.0.1:{free_port()}/{n}" for n in range(9)])])
    for _ in range(2):
        with pytest.raises(Stopped, match="only 0 of 9 urls.*connect 9"):
            again(tmp_path, plain=plain)
    with pytest.raises(DataError, match="pool.connect 9"):
        again(tmp_path, plain=plain, min_success=0)


def test_what_has_failed_before_does_not_stop_a_download(tmp_path):
    """Asked once more it mostly fails again, and a host that is gone says nothing of others."""
    with web({"/good": Says(200, picture(1)), "/best": Says(200, picture(2))}) as server:
        gone = free_port()  # one server: sixty would be sixty that say something
        rows = [downloads.page([server.url("/good"), *(f"http://127.0.0.1:{gone}/{n}" for n in range(60))])]
        plain = downloads.recipe(tmp_path, rows, stages=[], fetch={"window": 40, "min_success": 0.01})
        first = again(tmp_path, plain=plain)
        assert first.num_pairs == 1 and drops(first) == {"connect": 60}
        more = {"retry": True, "min_success": 0.012, "retries": 0}
        assert again(tmp_path, plain=plain, **more) == first


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_private_space_is_closed_unless_it_is_opened(site, tmp_path):
    site.asked.clear()
    with pytest.raises(DataError, match="private_address 56"):
        made(tmp_path, downloads.pages(site), fetch={"allow_networks": []})
    assert site.asked == []


def test_a_damaged_image_is_an_error_once_and_downloaded_again(site, reference, tmp_path):
    plain = downloads.recipe(tmp_path, downloads.pages(site), fetch={"commit_urls": 10})
    again(tmp_path, plain=plain)
    tables = (tmp_path / "out" / "_pool" / "parts").glob("fetched-*/images.parquet")
    url = site.url("/image-10.bin")  # no other has the same bytes, which could be read in its place
    tar, at = next(
        (table.with_name("images.tar"), row["offset"])
        for table in tables
        for row in pq.read_table(table).to_pylist()
        if row["url"] == url
    )
    content = bytearray(tar.read_bytes())
    content[at + 100 : at + 200] = bytes(100)
    tar.write_bytes(content)
    shutil.rmtree(tmp_path / "out" / "_pool" / "columns")
    shutil.rmtree(tmp_path / "out" / "_work")
    with pytest.raises(DataError, match="is damaged"):
        curate(CurateSettings.model_validate({**plain, "fresh": True}), name="test", seed=3, quiet=True)
    site.asked.clear()
    manifest = again(tmp_path, plain=plain)
    assert manifest.digest() == reference[0].digest() and 0 < len(site.asked) < 20


def test_a_source_of_urls_is_downloaded_by_itself_and_others_beside_it_are_not(site, tmp_path, monkeypatch):
    monkeypatch.setattr("curation.sources.shards.shards.ShardsSource.fetches", True)
    settings = CurateSettings.model_validate(
        {"sources": [{"kind": "warc", "paths": ["a"]}, {"kind": "shards", "paths": ["b"]}], "output": "o"}
    )
    assert settings.fetching is not None and [settings.is_fetched(at) for at in (0, 1)] == [False, True]
    off = settings.model_copy(update={"fetch": False})
    assert off.fetching is None and not off.is_fetched(1)


def test_what_a_table_of_images_lacks_is_downloaded_only_when_that_is_said(tmp_path, monkeypatch):
    """One that img2dataset has written: it has asked for them. Beside it, a table of urls alone."""
    quick = FetchSettings(**downloads.QUICK)  # by default the loopback interface is closed
    monkeypatch.setattr(CurateSettings, "fetching", property(lambda self: None if self.fetch is False else quick))
    with web() as server:
        server.routes |= {f"/{n}.png": Says(200, picture(n), {"Content-Type": "image/png"}) for n in range(3)}
        urls = [server.url(f"/{n}.png") for n in range(3)]
        pq.write_table(
            pa.table({"url": urls[:2], "caption": ["a cat", "a dog"], "png": [picture(0), None]}),
            tmp_path / "images.parquet",
        )
        pq.write_table(pa.table({"url": urls[2:], "caption": ["a bird"]}), tmp_path / "urls.parquet")
        plain = {"sources": [{"kind": "table", "paths": [str(tmp_path / "*.parquet")]}], "ray": {"address": "inline"}}
        expected = {None: (2, ["/2.png"]), False: (1, []), True: (3, ["/1.png", "/2.png"])}
        # The last one on the pool of the first, whose download is finished.
        for fetch, output in ((None, "one"), (False, "other"), (None, "one"), (True, "one")):
            server.asked.clear()
            settings = CurateSettings.model_validate({**plain, "fetch": fetch, "output": str(tmp_path / output)})
            pairs = curate(settings, name="test", seed=3, quiet=True).num_pairs
            asked = sorted(path for path in server.paths() if path.endswith(".png"))
            assert (pairs, asked) == expected[fetch], fetch
            if fetch is None:
                expected = {**expected, None: (2, []), True: (3, ["/1.png"])}


def test_what_a_killed_run_was_writing_is_gone_from_every_room_of_its_pool(site, tmp_path):
    plain = downloads.recipe(tmp_path, downloads.pages(site))
    made(tmp_path, downloads.pages(site))
    pool = tmp_path / "out/_pool"
    rooms = [pool, *(path for path in pool.rglob("*") if path.is_dir())]
    assert {path.name for path in rooms} >= {"parts", "fetched", "joined"}
    for room in rooms:
        (room / f".tmp-{'0' * 12}-left.json").touch()
    (tmp_path / "out/manifest.json").unlink()
    again(tmp_path, plain=plain)
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_without_the_package_that_downloads_it_is_said_before_any_work(site, tmp_path, monkeypatch):
    monkeypatch.setattr("curation.runner.fetching.phase.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="img2dataset"):
        made(tmp_path, downloads.pages(site))
    assert not (tmp_path / "out").exists()


def test_a_turn_that_is_over_goes_on_in_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "pace", lambda number: 0.3)
    routes = {f"/{n}": Says(200, picture(n), wait_s=0.05) for n in range(60)}
    routes["/5"] = Says(503)
    with web(routes) as server:
        urls = [server.url(path) for path in routes]
        more = {"host_connections": 2, "retries": 2, "backoff_s": 0.4}
        manifest, out = made(tmp_path, [downloads.page(urls)], stages=[], fetch=more)
        assert manifest.num_pairs == 59 and drops(manifest) == {"http_error": 1}
        paths = server.paths()
        assert paths.pop("/5") == 3 and paths.pop("/robots.txt") == 1 and set(paths.values()) == {1}
        assert len(list((out / "_pool" / "parts").glob("fetched-*"))) > 2


@pytest.mark.exhaustive
def test_on_ray_with_two_workers_it_is_the_same(site, reference, tmp_path, monkeypatch):
    ray = {"address": "local", "num_cpus": 2, "temp_dir": "/tmp"}
    manifest, out = made(tmp_path, downloads.pages(site), files=2, ray=ray)
    assert small_crawl.outcome(out) == small_crawl.outcome(reference[1])
    assert manifest.inputs[-1] == reference[0].inputs[-1]
