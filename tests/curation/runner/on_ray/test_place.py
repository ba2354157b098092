"""Several real Ray nodes: one is lost, one joins, in the middle; the dataset is that of one process."""

import json
import subprocess
import sys

import pytest

from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers import small_crawl
from tests.helpers.places import ROOT

pytestmark = pytest.mark.slow
POOL = {"image_decode": {"cpus": 0.5, "actors": {"min": 1, "max": 3}}}


@pytest.fixture(scope="module")
def crawl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crawl")
    paths = small_crawl.write(folder / "in", small_crawl.records(72), files=12)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json", buckets=16)
    return paths, curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True), folder / "out"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("nodes", "changes", "more"),
    [
        (1, (), {}),
        pytest.param(3, ("kill", "add"), {}, marks=pytest.mark.exhaustive),
        pytest.param(3, ("add", "kill"), {"placement": POOL}, marks=pytest.mark.exhaustive),
    ],
)
def test_nodes_that_are_lost_and_that_join_leave_no_trace(crawl, tmp_path, nodes, changes, more):
    paths, manifest, out = crawl
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json", buckets=16, **more)
    (tmp_path / "settings.json").write_text(json.dumps(plain))
    command = [sys.executable, "-m", "tests.helpers.cluster_child", str(tmp_path / "settings.json"), str(nodes)]
    done = subprocess.run([*command, *changes], cwd=ROOT, capture_output=True, text=True, timeout=280)
    said = [line for line in done.stdout.splitlines() if line.startswith(("said ", "late ", "did "))]
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert said == [*(f"did {change}" for change in changes), f"said {manifest.digest()}"], done.stderr
    assert small_crawl.outcome(tmp_path / "out") == small_crawl.outcome(out)
