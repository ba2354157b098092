"""A job runs the tasks, writes the files and opens the packs and tables that the formulae say."""

import pytest

from curation.methods.rounds import Round
from curation.runner import driver, exchange
from curation.runner.closing import grouping, measuring, pieces, reducing
from curation.runner.costs import closing
from curation.runner.costs.cost import Cost
from curation.settings import CurateSettings
from curation.stages import cluster_quota, kmeans
from curation.table import packs
from tests.helpers import everything, small_crawl, tiny_clip
from tests.helpers.benchmarks import imported
from tests.helpers.lanes import sampled

counts = imported("counts")


def run(plain):
    """(what was counted up to the pairs of the last segment, what the formulae say, all that was counted)."""
    with counts.Counts() as seen:
        driver.curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)
    return seen.cost(counts.CLOSING), seen.expected, seen


@pytest.fixture
def small(monkeypatch):
    """Everything is brought together in groups, and there are several runs of slots."""
    for room, name, value in (
        (exchange, "FAN", 3), (exchange, "RUNS", 3), (exchange, "READ", 3), (reducing, "FAN", 2),
        (grouping, "ROWS", 40), (grouping, "FEW", 4), (measuring, "RUN_ROWS", 50),
    ):  # fmt: skip
        monkeypatch.setattr(room, name, value)


def crawl(folder, *stages, **more):
    paths = small_crawl.write(folder / "in", small_crawl.records(), 2, None)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json", **more)
    return {**plain, "stages": [*plain["stages"][:-2], *stages, *plain["stages"][-2:-1]]}


@pytest.mark.parametrize("buckets", [4, 8])
@pytest.mark.parametrize("keep", sampled([0, 64], 0))
def test_of_stages_that_look_around(tmp_path, request, buckets, keep):
    if buckets == 8:
        request.getfixturevalue("small")
    near = [{"kind": "perceptual_duplicates"}, {"kind": "caption_frequency", "max_pairs": 3}]
    plain = crawl(tmp_path, *near, buckets=buckets, keep=keep)
    plain["stages"].append({"kind": "balance", "target_pairs": 9})
    counted, expected, _ = run(plain)
    assert counted == expected and counted.kept == 0 and counted.images > 10


def test_of_packs_that_are_merged_in_several_turns(tmp_path, small, monkeypatch):
    """As where results are gigabytes: what is merged is opened once for each piece that fits into memory."""
    monkeypatch.setattr(packs, "MERGED_BYTES", 1_000)
    near = [{"kind": "perceptual_duplicates"}, {"kind": "caption_frequency", "max_pairs": 3}]
    counted, expected, seen = run(crawl(tmp_path, *near, buckets=8))
    again = [told for _, call, told in seen.calls if call.function in (exchange.gather, grouping.merge)]
    assert counted == expected and max(again) > 3


@pytest.mark.parametrize("buckets", [2, 8])
def test_of_clusters_that_come_in_pieces(tmp_path, monkeypatch, small, buckets):
    monkeypatch.setattr(kmeans, "WIDE", 3)
    clip = tiny_clip.kept()
    plain = crawl(
        tmp_path, {"kind": "clip_image_vector", **clip}, {"kind": "kmeans", "k": 8, "rounds": 3}, buckets=buckets
    )
    counted, expected, seen = run(plain)
    assert counted == expected and counted.kept > 3 * buckets
    finished = [call for _, call, _ in seen.calls if call.function is pieces.finish]
    assert len({call.args[2] for call in finished}) >= 3, "several pieces a round"


def test_of_every_stage(tmp_path, monkeypatch, small):
    monkeypatch.setattr(cluster_quota, "_WIDE", 2)
    sources, stages = everything.write(tmp_path / "in"), everything.stages(tmp_path / "lists")
    counted, expected, _ = run(everything.recipe(sources, stages, tmp_path / "out", buckets=8))
    assert counted._replace(kept=0) == expected._replace(kept=0)
    assert 0 < counted.kept <= expected.kept


def test_a_round_that_asks_no_bucket_reads_pieces_alone():
    pieces_only = closing.reduce(100, [Round(), Round(5), Round(5, asks=False)])
    before = closing.reduce(100, [Round(), Round(5)])
    more = Cost(*(a - b for a, b in zip(pieces_only, before, strict=True)))
    assert more == Cost(tasks=5 + 1 + 1, files=3 * 5 + 2, packs=0, tables=2 * 5 + 1, kept=5 * 5)
