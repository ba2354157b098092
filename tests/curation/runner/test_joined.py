"""The joined table: made once for every recipe on its inputs, in buckets of even size, made again where damaged."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.job import Job, make_job
from curation.pool.store import PoolSink
from curation.runner import driver, joined
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.table.uids import Cut
from tests.helpers import small_crawl
from tests.helpers.lanes import sampled
from tests.helpers.tars import tar_bytes


def plain_of(folder: Path, files: int = 3, **more) -> dict:
    paths = small_crawl.write(folder / "in", small_crawl.records(36), files)
    return small_crawl.recipe(paths, folder / "out", folder / "e.json", **more)


def made(plain: dict):
    return curate(CurateSettings.model_validate(plain), name="t", seed=3, quiet=True)


def folders(pool: Path) -> list[Path]:
    return sorted(path for path in (pool / "joined").iterdir() if path.is_dir())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def joins(monkeypatch):
    """How often a task of the way to the joined table did something."""
    seen = Counter()
    for home, name in ((joined.runs, "publish_run"), (joined, "join_rows"), (joined.redirects, "one_slot")):
        real = getattr(home, name)
        monkeypatch.setattr(home, name, lambda *a, real=real, name=name: seen.update([name]) or real(*a))
    return seen


# -- shared by recipes, and by jobs at the same time


def test_a_recipe_with_other_stages_and_a_rerun_join_nothing(tmp_path, joins):
    plain = plain_of(tmp_path, pool=str(tmp_path / "pool"))
    made(plain)
    assert joins == {"publish_run": 3, "join_rows": 4}
    joins.clear()
    other = {**plain, "output": str(tmp_path / "other"), "stages": plain["stages"][1:2]}
    told = made(other)
    made({**plain, "fresh": True})
    assert joins == {} and len(folders(tmp_path / "pool")) == 1
    assert told.digest() == made({**other, "output": str(tmp_path / "apart"), "pool": str(tmp_path / "new")}).digest()
    assert joins["join_rows"] == 4
    joins.clear()
    made({**other, "buckets": 8})  # the same dataset under another cut: finished
    made({**plain, "buckets": 8, "fresh": True})
    assert joins == {"publish_run": 3, "join_rows": 8} and len(folders(tmp_path / "pool")) == 2


def job_of(pool: Path, output: Path, **more) -> Job:
    plain = {"sources": [{"kind": "warc", "paths": ["a.warc"]}], "output": str(output), "pool": str(pool), **more}
    return make_job(CurateSettings.model_validate(plain), 0, ["a", "b"], Cut.even(4))


def inline(job, between=lambda call: None):
    def do(calls, label, unit):
        for call in calls:
            between(call)
            yield call, call.function(job, *call.args)

    return do


def filled(pool: Path) -> None:
    for name in "ab":
        with PoolSink(str(pool), name) as sink:
            for number in range(40):
                sink.occurrence(url=f"http://s.test/{number}{name}.png", text=f"{number}", source="alt")
            sink.finish({})


@pytest.mark.parametrize("at", range(6))
def test_two_jobs_that_join_the_same_pool_at_the_same_time_do_not_disturb_each_other(tmp_path, at):
    filled(tmp_path / "pool")
    one, other = (job_of(tmp_path / "pool", tmp_path / name) for name in "12")
    counts, step = {"a": {}, "b": {}}, iter(range(100))

    def between(call):
        if next(step) == at:
            joined.make(other, counts, inline(other))

    joined.make(one, counts, inline(one, between))
    assert next(step) >= at
    alone = job_of(tmp_path / "alone", tmp_path / "3")
    filled(tmp_path / "alone")
    joined.make(alone, counts, inline(alone))
    assert content(Path(one.joined_folder)) == content(Path(alone.joined_folder))
    assert not Path(one.runs_folder).exists() and not Path(other.runs_folder).exists()


# -- damage


@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "state", "no state"])
def test_a_joined_bucket_that_is_damaged_or_missing_is_made_again_and_no_other(tmp_path, joins, how):
    plain = plain_of(tmp_path, pool=str(tmp_path / "pool"))
    made(plain)
    (folder,) = folders(tmp_path / "pool")
    before, joined_path = content(folder), folder / "bucket-00002.parquet"
    path = folder / "bucket-00002.json" if "state" in how else joined_path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink() if how in ("gone", "no state") else path.write_bytes(data if how != "cut" else data[:-9])
    joins.clear()
    other = {**plain, "output": str(tmp_path / "other"), "stages": []}
    made(other)
    assert joins["join_rows"] == 1 and content(folder) == before


# -- what goes


def test_of_a_pool_of_its_own_the_last_two_are_kept(tmp_path):
    plain, pool = plain_of(tmp_path), tmp_path / "out/_pool"
    for buckets, kept in ((4, {4}), (8, {4, 8}), (2, {2, 8}), (8, {2, 8}), (1, {1, 8})):
        made({**plain, "buckets": buckets, "fresh": True})
        assert {len(list(folder.glob("*.json"))) for folder in folders(pool)} == kept


def test_of_a_pool_that_others_use_nothing_goes(tmp_path):
    plain, pool = plain_of(tmp_path), tmp_path / "out/_pool"
    made(plain)
    made({**plain, "output": str(tmp_path / "guest"), "pool": str(pool), "buckets": 2})
    for buckets in (1, 8, 16):
        made({**plain, "buckets": buckets, "fresh": True})
    assert {len(list(folder.glob("*.json"))) for folder in folders(pool)} == {1, 2, 4, 8, 16}


def test_a_folder_that_we_did_not_write_stays(tmp_path):
    plain, mine = plain_of(tmp_path), tmp_path / "out/_pool/joined/mine"
    made(plain)
    mine.mkdir()
    made({**plain, "buckets": 8, "fresh": True})
    assert mine.is_dir()


def test_what_the_join_alone_needed_is_gone_when_it_is_done(tmp_path, monkeypatch):
    plain = plain_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(driver.resume, "reopen", None)
        with pytest.raises(TypeError):
            made(plain)
    assert [path.name for path in (tmp_path / "out/_work").iterdir()] == []
    assert len(folders(tmp_path / "out/_pool")) == 1


# -- buckets of even size


def shard_of(uids: list[str]) -> bytes:
    """One pair in 20 has a caption that no rule drops."""
    image, members = small_crawl.picture(0, side=8), []
    for number, uid in enumerate(uids):
        caption = f"a cat on chair {number}" if number % 20 == 0 else "x"
        meta = {"uid": uid, "url": f"http://e.org/{number}.png", "caption": caption}
        members += [(f"{number:09d}.png", image), (f"{number:09d}.json", json.dumps(meta).encode())]
    return tar_bytes(members)


def test_uids_in_a_row_fill_all_buckets_alike_and_leave_no_trace_of_their_number(tmp_path):
    (tmp_path / "in").mkdir()
    names = [f"{number:032x}" for number in range(1, 20_001)]
    for number in range(2):
        (tmp_path / "in" / f"{number:05d}.tar").write_bytes(shard_of(names[number::2]))
    plain = {
        "sources": [{"kind": "shards", "paths": [str(tmp_path / "in")]}],
        "stages": [{"kind": "caption_rules"}],
        "pool": str(tmp_path / "pool"),
        "ray": {"address": "inline"},
    }
    outcomes = []
    for buckets in (1, 4, 16):
        out = tmp_path / f"{buckets}"
        told = made({**plain, "output": str(out), "buckets": buckets})
        outcomes.append((told.digest(), small_crawl.outcome(out)))
        assert told.num_pairs == 1000
    assert all(outcome == outcomes[0] for outcome in outcomes)
    for folder in folders(tmp_path / "pool"):
        sizes = [pq.read_metadata(path).num_rows for path in folder.glob("*.parquet")]
        assert sum(sizes) == 20_000 and max(sizes) <= 2 * sum(sizes) / len(sizes)
    assert sorted(len(list(folder.glob("*.parquet"))) for folder in folders(tmp_path / "pool")) == [1, 4, 16]


@pytest.mark.parametrize("parts", sampled([1, 3, 300], 1))
def test_the_cut_is_even_for_hashes_and_the_same_however_its_samples_arrive(tmp_path, parts, monkeypatch):
    for number in range(parts):
        with PoolSink(str(tmp_path / "pool"), f"{number:03d}") as sink:
            for row in range(12_000 // parts):
                sink.occurrence(url=f"http://s.test/{number}-{row}.png", text="a", source="alt")
            sink.finish({})
    job = make_job(
        job_of(tmp_path / "pool", tmp_path / "out", buckets=8).settings, 0, [f"{n:03d}" for n in range(parts)]
    )

    def backwards(calls, *_):
        return [(call, call.function(job, *call.args)) for call in reversed(calls)]

    cut = joined.cut_of(job, 12_000, inline(job))
    assert cut == joined.cut_of(job, 12_000, backwards) and cut.buckets == 8
    uids = [uid for path in (tmp_path / "pool/parts").glob("*/occ*") for uid in pq.read_table(path)["uid"].to_pylist()]
    sizes = [sum(low <= uid < high for uid in uids) for low, high in map(cut.range_of, range(8))]
    assert sum(sizes) == 12_000 and max(sizes) < 1.2 * 12_000 / 8


def test_parts_that_were_read_before_there_were_samples_are_cut_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(joined.store, "part_sample", lambda *_: [])
    job = job_of(tmp_path / "pool", tmp_path / "out", buckets=8)
    assert joined.cut_of(job, 99, inline(job)) == Cut.even(8)


def test_buckets_are_as_even_where_they_are_more_than_the_uids_that_a_part_tells(monkeypatch):
    """All parts tell the same rows of theirs, nearly the same uids."""
    rows, told, buckets = 4_000, 32, 256
    rng = np.random.default_rng(5)
    parts = {f"{at:04d}": np.sort(rng.integers(0, 2**62, rows)) for at in range(128)}
    every = np.linspace(0, rows - 1, told).round().astype(int)
    samples = {part: [([f"{value << 66:032x}" for value in own[every].tolist()], rows)] for part, own in parts.items()}
    monkeypatch.setattr(joined.store, "part_sample", lambda _, part: samples[part])
    cut = Cut.at_quantiles([each.decode() for each in joined.sample(Pool(), 0, parts, 2048)[0]], buckets)
    edges = np.array([int(edge, 16) >> 66 for edge in cut.edges])
    sizes = np.bincount(np.searchsorted(edges, np.concatenate(list(parts.values())), "right"), minlength=buckets)
    assert sizes.max() < 1.3 * sizes.mean() and sizes.min() > sizes.mean() / 1.3


def test_buckets_of_hashes_are_even_to_a_few_in_a_hundred(monkeypatch):
    """As large ones are cut: 64 parts of two tables, each of which tells 128 of 20,000 uids."""
    rng = np.random.default_rng(7)
    tables = {f"{at:04d}": [np.sort(rng.integers(0, 2**62, 20_000)) for _ in range(2)] for at in range(64)}
    every = np.linspace(0, 19_999, 128).round().astype(int)

    def told(_, part):
        return [([f"{value << 66:032x}" for value in own[every].tolist()], 20_000) for own in tables[part]]

    monkeypatch.setattr(joined.store, "part_sample", told)
    cut = Cut.at_quantiles([each.decode() for each in joined.sample(Pool(), 0, tables, 4096)[0]], 512)
    edges = np.array([int(edge, 16) >> 66 for edge in cut.edges])
    rows = np.concatenate([own for both in tables.values() for own in both])
    sizes = np.bincount(np.searchsorted(edges, rows, "right"), minlength=512)
    assert 0.92 * sizes.mean() < sizes.min() and sizes.max() < 1.08 * sizes.mean()


class Pool:
    pool = ""
