"""All urls of the real crawl, from the server that replays it: as it was, failing, and slow."""

import hashlib
import html
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest
from warcio.archiveiterator import ArchiveIterator

from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers import downloads
from tests.helpers.places import shared_files

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(400)]


@contextmanager
def replayed(port: int, *options: str) -> Iterator[None]:
    [tool], crawl = shared_files("../tools/replay_crawl.py"), shared_files("crawl/crawl-*.warc.gz")
    command = [sys.executable, str(tool), "--port", str(port), *options, *map(str, crawl)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert "serving" in process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def stored():
    """Path -> status, X-Robots-Tag, body, as another reader of WARC has them."""
    found = {}
    for path in shared_files("crawl/crawl-*.warc.gz"):
        with open(path, "rb") as stream:
            for record in ArchiveIterator(stream):
                if record.rec_type == "response":
                    url, head = record.rec_headers.get_header("WARC-Target-URI"), record.http_headers
                    body = record.content_stream().read()
                    told = int(head.get_statuscode()), head.get_header("X-Robots-Tag") or "", body
                    found[url.removeprefix("http://")] = told
    return found


@pytest.fixture(scope="module")
def outcomes():
    """What each mode gave, to be compared."""
    return {}


MODES = {
    "plain": ([], {"host_connections": 16}),
    "failing": (["--fail-every", "7"], {"retries": 10, "backoff_s": 0.02, "max_backoff_s": 0.1}),
    "slow": (["--slow-every", "400", "--delay", "2"], {"host_connections": 32, "timeout_s": 0.5, "backoff_s": 0.05}),
}


@pytest.mark.parametrize(("at", "mode"), list(enumerate(MODES)))
def test_every_url_comes_to_what_the_crawl_has_of_it(tmp_path, stored, outcomes, at, mode):
    port, (options, fetch) = 18931 + at, MODES[mode]
    rows = pq.read_table(shared_files("crawl/urls.parquet")[0]).to_pylist()
    here = {row["url"].replace(":8900/", f":{port}/"): row["text"] for row in rows}
    tags = [f'<img src="{html.escape(url)}" alt="{html.escape(text)}">' for url, text in here.items()]
    pages = [
        (f"http://pages.test/{first}.html", 200, "text/html", "".join(tags[first : first + 1000]).encode(), "")
        for first in range(0, len(tags), 1000)
    ]
    plain = downloads.recipe(tmp_path, pages, files=2, fetch=fetch, stages=[{"kind": "image_decode"}], buckets=2)
    with replayed(port, *options):
        manifest = curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    seen = {}
    for file in (tmp_path / "out/_pool/parts").glob("fetched-*/images.parquet"):
        for row in pq.read_table(file).to_pylist():
            status, robots, body = stored.get(row["url"].split("/", 3)[3].replace("%20", " "), (404, "", b""))
            seen[row["url"]] = row["sha256"]
            if row["sha256"]:
                assert status == 200 and row["sha256"] == hashlib.sha256(body).hexdigest()
            else:
                assert status != 200 or "noai" in robots or body.lstrip()[:1] == b"<", row
    assert len(seen) == len(here) == manifest.stages[0].pairs_in
    outcomes[mode] = sorted((url.split("/", 3)[3], sha256 or "") for url, sha256 in seen.items())
    assert outcomes[mode] == next(iter(outcomes.values()))
    assert manifest.inputs[-1].counts["images_stored"] > 8000
