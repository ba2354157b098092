"""What happens between two segments comes to the same however it is merged and cut into tasks."""

import json
from pathlib import Path

import pytest

from curation.pool import columns
from curation.runner import exchange
from curation.runner.closing import grouping, measuring, reducing
from curation.runner.driver import curate
from curation.settings import CurateSettings
from tests.helpers import small_crawl
from tests.helpers.lanes import sampled


def run(folder: Path, output: str = "out", files: int = 3, **more):
    paths = small_crawl.write(folder / "in", small_crawl.records(36), files)
    plain = small_crawl.recipe(paths, folder / output, folder / "e.json", **more)
    at = [stage["kind"] for stage in plain["stages"]].index("caption_frequency")
    plain["stages"][at:at] = [{"kind": "site_boilerplate"}, {"kind": "perceptual_duplicates"}]
    manifest = curate(CurateSettings.model_validate(json.loads(json.dumps(plain))), name="t", seed=3, quiet=True)
    return manifest.digest(), small_crawl.outcome(folder / output)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize(
    ("home", "name", "value"),
    sampled(
        [
            (exchange, "FAN", 2),
            (exchange, "FAN", 3),
            (reducing, "FAN", 2),
            (grouping, "ROWS", 5),
            (grouping, "FEW", 1),
            (measuring, "RUN_ROWS", 5),
            (columns, "MOST_FILES", 2),
        ],
        *(0, 2, 3, 5, 6),
    ),
    ids=lambda value: getattr(value, "__name__", value),
)
def test_merging_and_cutting_leave_no_trace(reference, tmp_path, monkeypatch, home, name, value):
    monkeypatch.setattr(home, name, value)
    assert run(tmp_path, buckets=8) == reference
