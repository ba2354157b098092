"""The driver, in one process: what comes out depends on the records and the recipe alone, and is never done twice."""

import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.runner import cluster, driver
from curation.runner.closing import feeding
from curation.runner.driver import check, curate
from curation.runner.inputs import reading
from curation.settings import CurateSettings
from curation.stages.caption_frequency import CaptionFrequency
from curation.stages.image_decode import ImageDecode
from curation.stages.image_size import ImageSize
from pipeline.contract.dataset import verify
from pipeline.contract.manifest import Manifest
from pipeline.errors import DataError, RecipeError
from tests.helpers import small_crawl
from tests.helpers.lanes import sampled


def made(folder: Path, *, files: int = 1, shuffled: int | None = None, rows=None, **more) -> tuple[Manifest, Path]:
    paths = small_crawl.write(folder / "in", rows or small_crawl.records(), files, shuffled)
    plain = small_crawl.recipe(paths, folder / "out", folder / "entries.json", **more)
    return curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True), folder / "out"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return made(tmp_path_factory.mktemp("reference"))


def test_the_crawl_meets_every_outcome_and_the_dataset_verifies(reference):
    manifest, out = reference
    reasons = {f"{stage.name}.{reason}" for stage in manifest.stages for reason in stage.drops}
    assert reasons >= {
        "pool.image_missing",
        "pool.http_error",
        "pool.not_image",
        "pool.no_caption",
        "opt_out.noai",
        "image_decode.truncated",
        "image_size.too_small",
        "exact_duplicates.copy",
        "balance.sampled_out",
    }
    assert verify(str(out)).problems == []
    sizes = [shard.pairs for shard in manifest.shards]
    assert len(sizes) > 1 and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("files", "shuffled", "buckets"),
    sampled([(3, None, 4), (7, None, 4), (1, 11, 4), (3, 12, 1), (2, 13, 16)], 4),
)
def test_the_cut_the_order_and_the_buckets_leave_no_trace(reference, tmp_path, files, shuffled, buckets):
    manifest, out = made(tmp_path, files=files, shuffled=shuffled, buckets=buckets)
    assert manifest.digest() == reference[0].digest()
    assert small_crawl.outcome(out) == small_crawl.outcome(reference[1])
    assert manifest.stages == reference[0].stages


def test_the_report_shows_dropped_images_but_not_those_that_opted_out(reference):
    drops = json.loads((reference[1] / "summary.json").read_text())["drop_examples"]
    assert any(row["thumb"] for row in drops["image_size.too_small"])
    assert drops["opt_out.noai"] and not any(row["thumb"] for row in drops["opt_out.noai"])


def test_the_report_draws_the_cuts_that_the_stages_name(reference):
    histograms = json.loads((reference[1] / "summary.json").read_text())["histograms"]
    cuts = {name: histogram["cut"] for name, histogram in histograms.items()}
    assert cuts == {"width": 32, "height": 32, "aspect": None, "caption_words": None}


def test_columns_that_a_stage_exports_stand_in_the_metadata_of_every_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageDecode, "exports", ("contrast", "format"))
    manifest, out = made(tmp_path)
    assert {"contrast", "format"} <= set(manifest.columns)
    with tarfile.open(out / manifest.shards[0].name) as tar:
        metas = [json.load(tar.extractfile(name)) for name in tar.getnames() if name.endswith(".json")]
    assert metas and all(meta["contrast"] >= 0 and meta["format"] for meta in metas)


def test_the_second_stage_of_a_kind_draws_from_a_stream_of_its_own(tmp_path, monkeypatch):
    """Else a pair that the first lottery kept would surely be kept by the second."""
    seeds = {"survey": set(), "judge": set(), "rule": set()}

    def noted(stage, name, of):
        function = getattr(stage, name)

        def call(self, *tables):
            seeds[of].add(tables[-1].seed)
            return function(self, *tables)

        monkeypatch.setattr(stage, name, call)

    noted(CaptionFrequency, "survey", "survey")
    noted(CaptionFrequency, "judge", "judge")
    noted(ImageSize, "judge", "rule")
    size, frequency = {"kind": "image_size"}, {"kind": "caption_frequency", "max_pairs": 30}
    made(tmp_path, stages=[{"kind": "image_decode"}, size, frequency, size, frequency])
    assert {name: (len(found), 3 in found) for name, found in seeds.items()} == dict.fromkeys(seeds, (2, True))
    assert seeds["survey"] == seeds["judge"] != seeds["rule"]


def test_entry_counts_hold_every_entry_with_its_number_of_texts(reference, tmp_path):
    counts = json.loads((reference[1] / "entry_counts.json").read_text())
    assert list(counts) == sorted(small_crawl.WORDS) and max(counts.values()) > 1
    concepts = json.loads((reference[1] / "summary.json").read_text())["concepts"]
    assert {each["entry"]: each["before"] for each in concepts["head"]} == {k: v for k, v in counts.items() if v}
    stages = small_crawl.recipe([], tmp_path / "out", tmp_path / "entries.json")["stages"][:-1]
    _, out = made(tmp_path, stages=stages)
    assert not (out / "entry_counts.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "workers"), sampled([("processes", 2), ("processes", 1), ("local", 1), ("local", 2)], 0)
)
def test_where_tasks_run_and_how_many_leaves_no_trace(reference, tmp_path, address, workers):
    manifest, out = made(tmp_path, files=3, ray={"address": address, "num_cpus": workers})
    assert manifest.digest() == reference[0].digest()
    assert small_crawl.outcome(out) == small_crawl.outcome(reference[1])


def test_another_seed_keeps_other_pairs(reference, tmp_path):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records())
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json")
    manifest = curate(CurateSettings.model_validate(plain), name="test", seed=4, quiet=True)
    assert manifest.digest() != reference[0].digest()


def test_the_funnel_reconciles_to_zero(reference):
    manifest, out = reference
    told = json.loads((out / "summary.json").read_text())
    verdicts = [row for path in sorted((out / "verdicts").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert told["pairs_in"] == len(verdicts) + manifest.num_pairs
    for before, after in zip(manifest.stages, manifest.stages[1:], strict=False):
        assert before.pairs_out == after.pairs_in and before.captions_out == after.captions_in
    for stage in manifest.stages:
        assert stage.pairs_in == stage.pairs_out + sum(stage.drops.values())
        assert stage.captions_in == stage.captions_out + sum(stage.caption_drops.values())
        for reason, number in stage.drops.items():
            assert number == sum((v["stage"], v["reason"]) == (stage.name, reason) for v in verdicts)
    kept = np.load(out / "subset.npy")
    assert kept.dtype == np.dtype([("f0", "u8"), ("f1", "u8")]) and len(kept) == manifest.num_pairs
    assert (np.sort(kept) == kept).all()
    gone = {v["uid"] for v in verdicts}
    assert len(gone) == len(verdicts) and not gone & {f"{a:016x}{b:016x}" for a, b in kept.tolist()}


def test_rerun_when_finished_tries_no_work_and_touches_nothing(reference, monkeypatch):
    manifest, out = reference
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    monkeypatch.setattr(driver, "cluster", None)  # no work may even be tried
    plain = small_crawl.recipe([str(out.parent / "in" / "*.gz")], out, out.parent / "entries.json")
    again = curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    assert again == manifest
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_adding_inputs_reads_only_the_new_ones_and_equals_one_run_over_all(reference, tmp_path, monkeypatch):
    rows = small_crawl.records()
    first = small_crawl.write(tmp_path / "a", rows[:30])
    second = small_crawl.write(tmp_path / "b", rows[30:])
    read = []
    real = reading.ingest
    monkeypatch.setattr(reading, "ingest", lambda job, at, part: read.append(part.path) or real(job, at, part))
    for paths in (first, [*first, *second]):
        plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json")
        manifest = curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    assert read == [*first, *second]
    assert manifest.digest() == reference[0].digest()
    # Equal also means that no shard of the first run is left.
    assert small_crawl.outcome(tmp_path / "out") == small_crawl.outcome(reference[1])


def test_a_changed_threshold_measures_nothing_again(tmp_path, monkeypatch):
    measured = []
    decoded = ImageDecode._decoded
    monkeypatch.setattr(ImageDecode, "_decoded", lambda self, body: measured.append(1) or decoded(self, body))
    feeding._opened.clear()
    first, out = made(tmp_path)
    assert measured
    paths = [str(path) for path in (tmp_path / "in").iterdir()]
    plain = small_crawl.recipe(paths, out, tmp_path / "entries.json")
    plain["stages"][2]["min_side"] = 1
    del measured[:]
    # Other buckets, too: what one bucket measured is found by another.
    second = curate(CurateSettings.model_validate({**plain, "buckets": 2}), name="test", seed=3, quiet=True)
    assert measured == []
    assert {stage.name: stage.drops for stage in second.stages}["image_size"] == {}
    assert first.digest() != second.digest()


@pytest.mark.parametrize("changed", sampled([2, 4, 5, 7], 0, 2))
def test_a_recipe_changed_in_the_middle_of_a_run_is_as_if_it_had_been_so_from_the_start(tmp_path, monkeypatch, changed):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(24))
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json", buckets=2)
    with monkeypatch.context() as patch:
        patch.setattr(driver.shards, "slices", None)  # all segments are done, and what they no longer need is gone
        with pytest.raises(TypeError):
            curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    other = {2: {"min_side": 70}, 4: {"by": ["bytes"]}, 5: {"max_pairs": 1}, 7: {"t": 1}}[changed]
    plain["stages"][changed] |= other
    told = curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    fresh = {**plain, "output": str(tmp_path / "fresh")}
    expected = curate(CurateSettings.model_validate(fresh), name="test", seed=3, quiet=True)
    assert told == expected.model_copy(update={"recipe_digest": told.recipe_digest})


def test_an_exception_in_a_stage_names_stage_bucket_and_line(tmp_path, monkeypatch):
    def broken(self, pairs, seed):
        raise KeyError("a mistake")

    monkeypatch.setattr("curation.stages.image_size.ImageSize.judge", broken)
    said = r"stage image_size, bucket \d: KeyError: 'a mistake'(.|\n)*test_driver.py:\d+ in broken"
    with pytest.raises(DataError, match=said):
        made(tmp_path)


def test_what_the_caller_has_to_do_is_done_once_by_a_thread_beside_the_tasks_and_only_when_there_are_some(tmp_path):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(), 1, None)
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json")
    done = []

    def meanwhile():
        done.append((threading.current_thread() is threading.main_thread(), (tmp_path / "out/manifest.json").exists()))

    for _ in range(2):  # the second time nothing is left to do
        settings = CurateSettings.model_validate(plain)
        curate(settings, name="test", seed=3, quiet=True, meanwhile=meanwhile)
    assert done == [(False, False)]


def test_nothing_left_says_what_dropped_most(tmp_path):
    with pytest.raises(DataError, match=r"no pair is left of \d+; most went by .*image_size.too_small"):
        stages = [{"kind": "image_decode"}, {"kind": "image_size", "min_side": 5000}]
        made(tmp_path, stages=stages)


def test_without_any_stage_broken_images_do_not_reach_the_shards(tmp_path):
    manifest, out = made(tmp_path, stages=[], emit={"other_formats": "drop"})
    drops = {stage.name: stage.drops for stage in manifest.stages}
    assert drops["emit"]["truncated"] == 4 and drops["emit"]["format"] > 0
    assert verify(str(out)).problems == []


def test_gif_becomes_png_and_resize_reencodes(tmp_path):
    manifest, out = made(tmp_path, stages=[{"kind": "image_decode"}], emit={"resize": {"max_side": 32}})
    table = pq.read_table(next(iter(sorted((out / "index").iterdir()))))
    assert set(table["ext"].to_pylist()) == {"jpg"} and max(table["height"].to_pylist()) <= 32
    assert "source_sha256" in manifest.columns


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"stages": [{"kind": "image_size"}]},
            r"curate.stages.0 \(image_size\): reads the column `width`.*\n.*put `image_decode` before",
        ),
        (
            {"stages": [{"kind": "concept_match", "entries": "/no/such.json"}]},
            r"curate.stages.0.entries: cannot read /no/such.json",
        ),
        (
            {"sources": [{"kind": "warc", "paths": ["/no/such.warc.gz"]}]},
            r"curate.sources.0.paths.0: nothing at /no/such",
        ),
    ],
)
def test_check_finds_it_before_any_work(tmp_path, change, said):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records(6))
    plain = {**small_crawl.recipe(paths, tmp_path / "out", tmp_path / "e.json"), **change}
    for door in (check, lambda s: curate(s, name="x", seed=0)):
        with pytest.raises(RecipeError, match=said):
            door(CurateSettings.model_validate(plain))
    assert not os.path.exists(tmp_path / "out")


def test_a_damaged_pool_is_named_not_used(tmp_path):
    paths = small_crawl.write(tmp_path / "in", small_crawl.records())
    plain = small_crawl.recipe(paths, tmp_path / "out", tmp_path / "entries.json", pool=str(tmp_path / "pool"))
    curate(CurateSettings.model_validate(plain), name="test", seed=3, quiet=True)
    tar = next((tmp_path / "pool" / "parts").glob("*/images.tar"))
    data = bytearray(tar.read_bytes())
    data[2000] ^= 1
    tar.write_bytes(data)
    again = {**plain, "output": str(tmp_path / "other"), "emit": {"pairs_per_shard": 5}}
    with pytest.raises(DataError, match=r"images.tar at byte \d+: is damaged(.|\n)*run the same command again"):
        curate(CurateSettings.model_validate({**again, "stages": []}), name="test", seed=3, quiet=True)
    mended = curate(CurateSettings.model_validate({**again, "stages": []}), name="test", seed=3, quiet=True)
    apart = {**again, "stages": [], "output": str(tmp_path / "apart"), "pool": None}
    assert curate(CurateSettings.model_validate(apart), name="test", seed=3, quiet=True).digest() == mended.digest()


def test_every_task_of_a_stage_over_all_pairs_gets_what_its_placement_asks_for(tmp_path, monkeypatch):
    asked: dict[str, set[tuple[float, float]]] = {}
    plain = cluster.Inline.run

    def run(self, calls, *more):
        calls = list(calls)
        for call in calls:
            asked.setdefault(call.function.__name__, set()).add((call.cpus, call.gpus))
        return plain(self, calls, *more)

    monkeypatch.setattr(cluster.Inline, "run", run)
    made(tmp_path, placement={kind: {"cpus": 2, "gpus": 0.5} for kind in ("exact_duplicates", "balance")})
    # caption_frequency, the third such stage, asks for nothing of its own.
    assert asked["settle"] == {(2.0, 0.5), (1.0, 0.0)}
    assert asked["finish"] == {(2.0, 0.5)}
    assert asked["ingest"] == asked["tally"] == {(1.0, 0.0)}
