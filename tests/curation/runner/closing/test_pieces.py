"""A Reduce in pieces ends the same in any cut and however often it is stopped, and keeps no more than it needs."""

import os
import random

import pytest

from curation.runner import cluster, exchange
from curation.runner.closing import pieces
from curation.runner.driver import curate
from curation.settings import CurateSettings
from curation.stages import kmeans
from pipeline.errors import DataError
from tests.helpers import small_crawl, tiny_clip
from tests.helpers.lanes import sampled

CLUSTERS = {
    "wide": {"kind": "kmeans", "k": 9, "rounds": 4, "near": 2},
    "levels": {"kind": "kmeans", "levels": [3, 2], "rounds": 4, "near": 2},
}


class Stopped(Exception):
    pass


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes the dataset `name`, in so many buckets, by clusters in pieces of two or three."""
    paths = small_crawl.write(tmp_path / "crawl", small_crawl.records(48), files=2)
    monkeypatch.setattr(kmeans, "WIDE", 3)

    def made(name: str, buckets: int, clusters: str, **more):
        stages = [{"kind": "clip_image_vector", **tiny_clip.kept()}, CLUSTERS[clusters]]
        return curate(CurateSettings.model_validate({
            "sources": [{"kind": "warc", "paths": paths}], "stages": stages, "output": str(tmp_path / name),
            "pool": str(tmp_path / "pool"), "ray": {"address": "inline"}, "buckets": buckets, **more,
        }), name="x", seed=0, quiet=True)  # fmt: skip

    return made


@pytest.fixture
def whole(made):
    """The same where nothing is in pieces, or merged."""
    return {name: made(f"whole-{name}", 1, name).digest() for name in CLUSTERS}


@pytest.mark.parametrize("clusters", CLUSTERS)
@pytest.mark.parametrize(("buckets", "fan", "held"), sampled([(4, 256, 1 << 20), (16, 3, 1)], 1))
def test_no_cut_changes_anything(made, monkeypatch, whole, clusters, buckets, fan, held):
    monkeypatch.setattr(exchange, "FAN", fan)
    monkeypatch.setattr(pieces, "HELD", held)
    assert made("cut", buckets, clusters).digest() == whole[clusters]


@pytest.mark.parametrize("clusters", CLUSTERS)
@pytest.mark.parametrize("seed", sampled(range(3), 0))
def test_stopped_at_random_tasks_it_goes_on_to_the_same(made, monkeypatch, whole, clusters, seed):
    rng, run, stops = random.Random(seed), cluster.Inline.run, 0
    left = [0]

    def stopping(self, calls, *more):
        for each in run(self, calls, *more):
            left[0] -= each[0].function.__name__ != "recheck"
            if left[0] < 0:
                raise Stopped
            yield each

    monkeypatch.setattr(cluster.Inline, "run", stopping)
    monkeypatch.setattr(exchange, "FAN", 3)
    while True:
        left[0] = rng.randrange(3, 30)
        try:
            manifest = made("stopped", 8, clusters)
            break
        except Stopped:
            stops += 1
            assert stops < 200
    assert stops > 3 and manifest.digest() == whole[clusters]


@pytest.mark.parametrize("damaged", ["-kept-00001.arrow", "-kept-00002.parquet", "-state.parquet"])
def test_what_is_damaged_between_two_starts_is_made_again(tmp_path, made, monkeypatch, whole, damaged):
    finish, done = pieces.finish, [0]

    def stopping(job, index, last, piece, urls):
        done[0] += 1
        if done[0] == 8:
            raise Stopped
        return finish(job, index, last, piece, urls)

    stopping.__module__ = finish.__module__
    monkeypatch.setattr(pieces, "finish", stopping)
    with pytest.raises(Stopped):
        made("damaged", 4, "wide")
    found = sorted((tmp_path / "damaged/_work").rglob(f"*{damaged}"), key=os.path.getmtime)
    assert found, "nothing of the kind was there to damage"
    data = bytearray(found[-1].read_bytes())
    data[len(data) // 2] ^= 1
    found[-1].write_bytes(data)
    monkeypatch.setattr(pieces, "finish", finish)
    assert made("damaged", 4, "wide").digest() == whole["wide"]


def test_partials_and_what_earlier_rounds_kept_are_removed(tmp_path, made, monkeypatch):
    monkeypatch.setattr(exchange, "FAN", 3)
    made("kept", 8, "wide", keep=64)
    names = {path.name for path in (tmp_path / "kept/_work").rglob("*")}
    assert not any(
        name.endswith(".pack") and "-0" in name and name[0].isdigit() and "answers" not in name for name in names
    )
    rounds = {name.split("-")[0] for name in names if "-kept-" in name}
    assert len(rounds) == 1 and {f"{n}-state.json" for n in range(int(rounds.pop()) + 1)} <= names


def test_a_file_that_is_no_arrow_is_named(tmp_path):
    from pipeline import storage

    (tmp_path / "x.arrow").write_bytes(b"none")
    with pytest.raises(DataError, match=r"x\.arrow"):
        storage.read_arrow(str(tmp_path / "x.arrow"))
