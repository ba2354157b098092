"""kill -9 at random moments of a download: what was committed is not asked for again, and the dataset is the same."""

import json
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers import downloads, small_crawl
from tests.helpers.forks import Forks
from tests.helpers.lanes import KILLS
from tests.helpers.web import Says, web


def prepare(folder: Path, server, **fetch) -> Path:
    plain = downloads.recipe(folder, downloads.pages(server), files=2, fetch={"commit_urls": 5, "threads": 4, **fetch})
    (folder / "settings.json").write_text(json.dumps(plain))
    return folder / "settings.json"


def committed(folder: Path) -> set[str]:
    """The paths of urls that the pool holds."""
    parts = [state.parent for state in (folder / "out/_pool/parts").glob("fetched-*/part.json")]
    urls = [url for part in parts for url in pq.read_table(part / "ledger.parquet").column("url").to_pylist()]
    return {"/" + url.split("/", 3)[3] for url in urls}


@pytest.mark.exhaustive
@pytest.mark.timeout(1500)
def test_kill_9_at_random_moments(tmp_path, kills=KILLS):
    children, rng = Forks("img2dataset.downloader"), random.Random(time.time())
    with web() as server:
        downloads.serve(server)
        for says in server.routes.values():
            says.wait_s = 0.01
        assert children.live(prepare(tmp_path / "reference", server), None) == 0
        reference = small_crawl.outcome(tmp_path / "reference/out")
        began = time.monotonic()
        assert children.live(prepare(tmp_path / "timed", server), None) == 0
        whole_s, killed, trials = time.monotonic() - began, 0, 0
        while killed < kills:
            folder, had = tmp_path / f"trial-{trials}", set()
            settings, trials = prepare(folder, server), trials + 1
            for _ in range(6):
                server.asked.clear()
                killed += children.live(settings, rng.uniform(0, whole_s * 0.7)) == -signal.SIGKILL
                assert not had & set(server.paths()), "what was committed was asked for again"
                had |= committed(folder)
            server.asked.clear()
            assert children.live(settings, None) == 0
            assert not had & set(server.paths())
            assert small_crawl.outcome(folder / "out") == reference
            left = [path.name for path in (folder / "out/_pool/parts").iterdir() if not (path / "part.json").exists()]
            assert left == [] and not list((folder / "out").rglob(".tmp-*"))
            assert trials < kills, "hardly a run was killed in time"
    children.close()


@pytest.mark.exhaustive
def test_a_kill_between_two_batches_leaves_the_first(tmp_path):
    """The rest of a site hangs until the run is killed."""
    children = Forks("img2dataset.downloader")
    with web() as server:
        downloads.serve(server)
        routes = dict(server.routes)

        def hanging(path: str) -> Says:
            return replace(routes[path], wait_s=3.0 if len(server.asked) > 20 else 0.0)

        server.routes |= dict.fromkeys(routes, hanging)
        settings = prepare(tmp_path, server)
        assert children.live(settings, 2.0) == -signal.SIGKILL
        had = committed(tmp_path)
        server.routes |= routes
        server.asked.clear()
        assert children.live(settings, None) == 0
        asked = set(server.paths()) - {"/robots.txt"}
        assert len(had) >= 5 and had.isdisjoint(asked) and had | asked >= set(routes)
    children.close()
