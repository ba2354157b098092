"""A download over a crawl with revisits: it asks for those whose bytes the crawl does not have, and for no others."""

import json
import random
import tarfile

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers.downloads import QUICK
from tests.helpers.lanes import sampled
from tests.helpers.small_crawl import picture
from tests.helpers.warcs import http, record, sha1, zipped
from tests.helpers.web import Says, web

OLD, NEW, OTHER = picture(1), picture(2), picture(3)
UNHAD = picture(4)  # by any capture of the crawl


def moved(url, to):
    return record(url, http(b"", "text/html", f"Location: {to}", status="301 Moved"))


def crawl(at):
    """Records whose images lie at `at(name)`, and what is to be asked for, name -> what is then had of it."""

    def revisit(name, of, body, **more):
        fields = {"WARC_Refers_To_Target_URI": at(of)} if of else {}
        fields |= {"WARC_Payload_Digest": sha1(body)} if body else {}
        head = http(b"", "image/png", "Content-Length: 999", status="200 OK" if body else "304 Not Modified")
        return record(at(name), head, "revisit", WARC_Date="2026-03-03T03:04:05Z", **fields, **more)

    had = ["orig", "same", "other", "chain", "moved", "plain304", "hop"]
    had += ["told", "elsewhere", "never-had", "led-on", "circle"]
    lost = ["changed", "nowhere", "alone", "loop", "led", "downloaded304"]
    html = "".join(f"<img src='{at(name)}' alt='a picture named {name}'>" for name in [*had, *lost, "fresh"])
    return [
        record("http://pages.test/", http(html.encode(), "text/html")),
        record(at("orig"), http(OLD), WARC_Payload_Digest=sha1(OLD)),
        record(at("orig"), http(NEW), WARC_Payload_Digest=sha1(NEW), WARC_Date="2026-02-02T03:04:05Z"),
        revisit("same", "", OTHER),  # of its own url, whose capture is in some other file
        record(at("same"), http(OTHER), WARC_Payload_Digest=sha1(OTHER)),
        revisit("other", "orig", OLD),
        revisit("chain", "other", OLD),
        moved(at("moved"), at("behind")),
        revisit("behind", "orig", NEW),
        revisit("plain304", "orig", None),
        revisit("hop", "gone-on", None),  # of an url that redirects to what is there
        moved(at("gone-on"), at("orig")),
        revisit("told", "", OLD),  # by its digest alone
        revisit("elsewhere", "orig", OTHER),  # that address never had it, but another one has
        revisit("never-had", "never", OLD),
        moved(at("led-on"), at("told")),
        revisit("circle", "circle2", OLD),
        revisit("circle2", "circle", OLD),
        revisit("changed", "orig", UNHAD),
        revisit("nowhere", "never", UNHAD),
        revisit("alone", "", UNHAD),
        revisit("loop", "loop2", UNHAD),
        revisit("loop2", "loop", UNHAD),
        moved(at("led"), at("led2")),
        revisit("led2", "never", UNHAD),
        revisit("downloaded304", "fresh", None),  # of an url that only a download has, in the same turn
        revisit("unseen", "orig", OLD),  # nobody mentions it, but what is downloaded leads there
    ]


ASKED = {"changed", "nowhere", "alone", "loop", "led2", "downloaded304", "fresh"}
HAD = {
    "orig": NEW, "same": OTHER, "other": OLD, "chain": OLD, "moved": NEW, "plain304": NEW, "hop": NEW, "fresh": OLD,
    "told": OLD, "elsewhere": OTHER, "never-had": OLD, "led-on": OLD, "circle": OLD,
    **dict.fromkeys(["changed", "nowhere", "alone", "loop", "led", "downloaded304"], picture(9)),
}  # fmt: skip


def settings(folder, records, cut, **more):
    (folder / "in").mkdir(parents=True)
    for number in range(cut):
        (folder / "in" / f"{number}.warc.gz").write_bytes(zipped(*records[number::cut]))
    source = {"kind": "warc", "paths": [str(folder / "in")]}
    plain = {"sources": [source], "output": str(folder / "out"), "stages": [], "fetch": {**QUICK, "threads": 2}}
    return CurateSettings.model_validate({**plain, "ray": {"address": "inline"}, **more})


def images(out, manifest):
    """The last word of each url -> bytes."""
    found = {}
    for shard in manifest.shards:
        with tarfile.open(out / shard.name) as tar:
            files = {name: tar.extractfile(name).read() for name in tar.getnames()}
        for name in files:
            if name.endswith(".json"):
                url = json.loads(files[name])["url"]
                found[url.rpartition("/")[2]] = files[name.replace(".json", ".png")]
    return found


@pytest.fixture
def site():
    with web({f"/{name}": Says(200, picture(9)) for name in ASKED}) as server:
        server.routes["/fresh"] = Says(302, headers={"Location": "/unseen"})
        yield server


def test_the_crawl_without_a_download_has_what_the_records_say(site, tmp_path):
    """Else the rest of this file would judge by names alone."""
    records = crawl(lambda name: site.url(f"/{name}"))
    manifest = curate(settings(tmp_path, records, 1, fetch=False), name="t", seed=0, quiet=True)
    lost = ASKED | {"led"}
    assert images(tmp_path / "out", manifest) == {name: body for name, body in HAD.items() if name not in lost}


@pytest.mark.parametrize(("cut", "buckets", "shuffled"), sampled([(1, 1, None), (3, 4, 1), (7, 16, 2)], 1))
def test_only_those_without_bytes_are_asked_for(site, tmp_path, cut, buckets, shuffled):
    records = crawl(lambda name: site.url(f"/{name}"))
    if shuffled is not None:
        random.Random(shuffled).shuffle(records)
    manifest = curate(settings(tmp_path, records, cut, buckets=buckets), name="t", seed=0, quiet=True)
    assert site.paths() == {f"/{name}": 1 for name in [*ASKED, "robots.txt"]}
    assert images(tmp_path / "out", manifest) == HAD


def test_what_a_download_had_by_a_kill_does_not_answer_for_a_revisit(site, tmp_path):
    """Else what is asked for would hang on when the run was killed."""
    fresh = Says(200, OTHER)
    site.routes |= {"/fresh": fresh, "/downloaded304": Says(503)}
    records = crawl(lambda name: site.url(f"/{name}"))
    plain = settings(tmp_path, records, 1, fetch={**QUICK, "retries": 0})
    first = curate(plain, name="t", seed=0, quiet=True)
    assert site.paths()["/downloaded304"] == 1 and first.inputs[-1].counts["failed:http_error_503"] == 1
    site.asked.clear()
    site.routes["/downloaded304"] = Says(200, picture(9))
    again = settings(tmp_path / "again", records, 1, pool=str(tmp_path / "out/_pool"), fetch={**QUICK, "retry": True})
    manifest = curate(again, name="t", seed=0, quiet=True)
    assert site.paths() == {"/downloaded304": 1, "/robots.txt": 1}
    assert images(tmp_path / "again" / "out", manifest) == HAD | {"fresh": OTHER}
