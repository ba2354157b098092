"""Shards, books and the summary run the tasks, write the files and open the tables that the formulae say."""

import json

import pytest

from curation.books import frequencies, summary, thumbnails
from curation.runner import driver
from curation.runner.costs import ending
from curation.settings import CurateSettings
from curation.stage import Reduce
from tests.helpers import small_crawl, tiny_set
from tests.helpers.benchmarks import imported

counts = imported("counts")


@pytest.mark.parametrize(("buckets", "concepts"), [(4, False), (8, True)])
def test_of_a_small_crawl(tmp_path, monkeypatch, buckets, concepts):
    monkeypatch.setattr(frequencies, "_SLOT_ROWS", 30)
    monkeypatch.setattr(thumbnails, "BATCH", 5)
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(), 2, None)
    emit = {"pairs_per_shard": 4, "concepts": concepts}
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json", buckets=buckets, emit=emit)
    evaluation = tiny_set.write(tmp_path / "set", [(small_crawl.picture(0, "JPEG"), "")])
    seen_by = {"kind": "decontaminate", "sets": [{"name": "tiny", "path": str(evaluation)}]}
    at = next(at for at, each in enumerate(plain["stages"]) if each["kind"] == "image_decode")
    plain["stages"].insert(at + 1, seen_by)
    with counts.Counts() as seen:
        manifest = driver.curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)

    told = {"survivors": [], "thumbnails": []}
    for _, call, _ in seen.calls:
        if call.function is summary.survivors:
            told["survivors"].append(len(call.args[1]))
        if call.function is thumbnails.thumbnails:
            told["thumbnails"].append(len(call.args[0]))
    segments, reduces = len(seen.job.segments), sum(isinstance(s, Reduce) for s in seen.job.settings.stages)
    expected = ending.shards(buckets, len(manifest.shards), manifest.num_pairs)
    expected += ending.books(buckets, segments, counted=True, concepts=concepts)
    expected += ending.summary(
        buckets, segments, json.loads((tmp_path / "out/summary.json").read_text())["stages"][0]["pairs_out"],
        survivors=(sum(told["survivors"]), len(told["survivors"])), shown=sum(told["thumbnails"]),
        reduces=reduces, counted=True, against=1,
    )  # fmt: skip
    counted = seen.cost(counts.ENDING)
    assert counted._replace(tables=0, files=0) == expected._replace(tables=0, files=0)
    assert expected.tables - buckets < counted.tables <= expected.tables, "a bucket may end with a shard"
    assert counted.files == expected.files + 1, "and what the swap goes by"
